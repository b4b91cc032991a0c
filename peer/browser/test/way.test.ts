// How a connection goes, by what browsers say of it, and why not better.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { legNow, legOf, reasonsOf } from '../src/way.ts';

/** As Chromium has it, which names the pair in use in the transport, and as Firefox has it, which marks the pair. */
function statistics(local: object, remote: object, firefox: boolean): RTCStatsReport {
  const pair = { id: 'p', type: 'candidate-pair', localCandidateId: 'l', remoteCandidateId: 'r' };
  return new Map<string, unknown>([
    ['other', { id: 'other', type: 'candidate-pair', localCandidateId: 'r', remoteCandidateId: 'l', state: 'succeeded' }],
    ...(firefox ? [] : [['t', { id: 't', type: 'transport', selectedCandidatePairId: 'p' }]] as const),
    ['p', firefox ? { ...pair, selected: true, nominated: true } : pair],
    ['l', { id: 'l', type: 'local-candidate', ...local }],
    ['r', { id: 'r', type: 'remote-candidate', ...remote }],
  ]) as unknown as RTCStatsReport;
}

test('statistics tell the path, and how our TURN server is reached', () => {
  for (const firefox of [true, false]) {
    const leg = (local: string, remote: string, relayProtocol?: string) =>
      legOf(statistics({ candidateType: local, ...(relayProtocol && { relayProtocol }) }, { candidateType: remote }, firefox));
    assert.deepEqual(leg('host', 'prflx'), { path: 'direct' });
    assert.deepEqual(leg('relay', 'host', 'udp'), { path: 'turn', server: 'own', transport: 'udp' });
    assert.deepEqual(leg('relay', 'relay', 'tcp'), { path: 'turn', server: 'both', transport: 'tcp' });
    assert.deepEqual(leg('relay', 'host', 'tls'), { path: 'turn', server: 'own', transport: 'tls' });
    assert.deepEqual(leg('relay', 'host', 'smoke'), { path: 'turn', server: 'own' });
    assert.deepEqual(leg('srflx', 'relay'), { path: 'turn', server: 'remote' }, 'only the other side has one');
  }
  assert.deepEqual(legOf(new Map() as unknown as RTCStatsReport), { path: 'direct' });
});

test('a browser that tells the pair at once is asked first', () => {
  const pc = (pair?: object | null) => ({ sctp: { transport: { iceTransport: pair === undefined ? {} : { getSelectedCandidatePair: () => pair } } } }) as unknown as RTCPeerConnection;
  assert.equal(legNow(pc()), undefined);
  assert.equal(legNow(pc(null)), undefined);
  const throws = () => { throw new Error('Not yet implemented!'); };
  assert.equal(legNow({ sctp: { transport: { iceTransport: { getSelectedCandidatePair: throws } } } } as unknown as RTCPeerConnection), undefined);
  assert.equal(legNow({ sctp: null } as RTCPeerConnection), undefined);
  assert.deepEqual(legNow(pc({ local: { type: 'host' }, remote: { type: 'srflx' } })), { path: 'direct' });
  assert.deepEqual(legNow(pc({ local: { type: 'relay', url: 'turn:a:3478?transport=tcp' }, remote: { type: 'srflx' } })), { path: 'turn', server: 'own', transport: 'tcp' });
  assert.deepEqual(legNow(pc({ local: { type: 'relay', url: null }, remote: { type: 'srflx' } })), { path: 'turn', server: 'own' });
});

test('why there is no better way', () => {
  const sdp = (types: string[]) => ({ type: 'offer', sdp: ['v=0', ...types.map((type, i) => `a=candidate:${i} 1 udp 1 192.0.2.1 1 typ ${type} raddr 0.0.0.0 rport 0`)].join('\r\n') }) as RTCSessionDescription;
  const reasons = (ours: string[], theirs: string[] | undefined, urls: string[] = [], iceTransportPolicy: RTCIceTransportPolicy = 'all') => {
    const pc = { localDescription: sdp(ours), remoteDescription: theirs ? sdp(theirs) : null } as RTCPeerConnection;
    const { noDirect, noTurn } = reasonsOf(pc, { iceServers: [{ urls }], iceTransportPolicy });
    return [noDirect, noTurn];
  };
  assert.deepEqual(reasons(['host', 'srflx'], ['host']), ['no_reply', 'no_turn']);
  assert.deepEqual(reasons(['host'], undefined, ['stun:a']), ['no_candidates', 'no_turn']);
  assert.deepEqual(reasons([], ['host'], ['stun:a', 'turn:a']), ['no_candidates', 'turn_failed']);
  assert.deepEqual(reasons(['host', 'relay'], ['host'], ['turns:a']), ['no_reply', 'no_reply']);
  assert.deepEqual(reasons(['host'], ['relay']), ['no_candidates', 'no_reply'], 'their TURN server');
  assert.deepEqual(reasons([], ['host'], ['turn:a'], 'relay'), ['forbidden', 'turn_failed']);
});
