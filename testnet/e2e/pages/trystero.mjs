// A Trystero peer (torrent strategy), the library as published.

import { joinRoom, selfId } from '@trystero-p2p/torrent';
import { peerOf } from './trystero-peer.mjs';

globalThis.peer = peerOf({ joinRoom, selfId });
