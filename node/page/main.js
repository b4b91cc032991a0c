import { Room } from './room.js';
import { watchStats } from './stats.js';
import { copyButtons, showUse } from './use.js';

watchStats(document);
showUse(document);
copyButtons(document);
new Room(document);
