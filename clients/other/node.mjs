// The clients of npm, "eventsource" 3 and 4, in Node.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [url, name] = process.argv.slice(2);
const require = createRequire(process.env.CLIENT_MODULES + '/');
const { EventSource } = await import(pathToFileURL(require.resolve(name)));
const source = new EventSource(url);
const say = (d) => process.stdout.write(JSON.stringify(d) + '\n');
for (const type of ['message', 'tick', 'evstream.open', 'evstream.gap', 'evstream.at', 'end']) {
  source.addEventListener(type, (e) => say({ type: e.type, id: e.lastEventId, data: e.data }));
}
source.onerror = (e) => {
  say({ note: `error, state ${source.readyState}: ${e.message ?? ''}` });
};
