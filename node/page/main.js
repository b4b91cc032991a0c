import { Health } from './health.js';
import { Room } from './room.js';
import { watchStats } from './stats.js';
import { copyButtons, showUse } from './use.js';

const health = new Health(document);
watchStats(document, (stats) => health.show(stats));
showUse(document);
copyButtons(document);
new Room(document);
