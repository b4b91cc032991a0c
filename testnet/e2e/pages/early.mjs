// Chromium says that a channel made by the other side is open a moment before it is, and loses what is sent until then; so it
// does between two tabs with no library and no server. A library that sends at once and never repeats it waits for ever for an
// answer. So what is sent early on a Connection waits until the statistics, which know better, say that its channel is open.

export class Connection extends RTCPeerConnection {
  constructor(...args) {
    super(...args);
    this.addEventListener('datachannel', ({ channel }) => holdUntilOpen(this, channel));
  }
}

async function holdUntilOpen(connection, channel) {
  const early = [];
  channel.send = (data) => void early.push(data);
  while (!(await isOpen(connection, channel))) {
    if (channel.readyState === 'closed') return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  delete channel.send;
  if (channel.readyState === 'open') early.forEach((data) => channel.send(data));
}

async function isOpen(connection, channel) {
  const stats = [...(await connection.getStats()).values()];
  return stats.some((s) => s.type === 'data-channel' && s.dataChannelIdentifier === channel.id && s.state === 'open');
}
