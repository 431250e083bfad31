// No library: the question is a POST, and an EventSource reads the answer. It comes back
// after a cut by itself, and status 204 ends it.
import assert from 'node:assert/strict';
import {EventSource} from 'eventsource';

const [site, app, network] = process.argv.slice(2);
const post = path => fetch(`${app}/${path}`, {method: 'POST'});
const url = `${network}/plain/chat-7`;
let text = '', words = 0;

// Ask. The answer is read below; the request may be closed.
const asked = await fetch(url, {method: 'POST', body: JSON.stringify({question: 'Count.'})});
await asked.body.cancel();

function read(show) {
  return new Promise(over => {
    const answer = new EventSource(url);
    answer.onmessage = e => show(JSON.parse(e.data));
    answer.onerror = () => answer.readyState === EventSource.CLOSED && over();
  });
}

await read(word => {
  text += word;
  if (++words === 3) post('cut').then(() => post('rest'));
});
assert.equal(text, '1 2 3 4 5 6 7 8 9 10 ');
text = '';
await read(word => text += word); // a page that comes later
assert.equal(text, '1 2 3 4 5 6 7 8 9 10 ');
assert.equal((await fetch(`${site}/plain/another`)).status, 204);
