// TanStack AI's connection is cut, and sends the same POST again with Last-Event-ID; a
// page that was reloaded joins the run.
import assert from 'node:assert/strict';
import {fetchServerSentEvents} from '@tanstack/ai-client';
import {list} from './list.mjs';

const [site, app, network] = process.argv.slice(2);
const post = path => fetch(`${app}/${path}`, {method: 'POST'});
const context = {threadId: 'thread-1', runId: 'run-9'};
const chunks = [];
for await (const chunk of fetchServerSentEvents(`${network}/tanstack/chat`).connect([], undefined, undefined, context)) {
  chunks.push(chunk);
  if (chunks.length === 5) await post('cut');
  if (chunks.length === 6) await post('rest');
}
const text = chunks => chunks.filter(chunk => chunk.type === 'TEXT_MESSAGE_CONTENT').map(chunk => chunk.delta).join('');
assert.equal(text(chunks), '1 2 3 4 5 6 7 8 9 10 ');
assert.equal(chunks.at(-1).type, 'RUN_FINISHED');

const joined = await list(fetchServerSentEvents(`${site}/tanstack/chat`).joinRun('run-9'));
assert.deepEqual(joined, chunks);
