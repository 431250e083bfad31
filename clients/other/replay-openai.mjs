// OpenAI's own client begins a response, loses it and goes on where it was.
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import {list} from './list.mjs';

const [site, app] = process.argv.slice(2);
const client = new OpenAI({apiKey: 'none', baseURL: `${site}/v1`, maxRetries: 0});
const ask = {model: 'gpt', input: 'Count.', background: true, store: true, stream: true};
const numbers = events => events.map(event => event.sequence_number);
const upTo = n => Array.from({length: n}, (_, i) => i);

const had = [];
for await (const event of await client.responses.create(ask, {headers: {'X-Run-Id': 'run-42'}})) {
  had.push(event);
  if (event.sequence_number === 4) break; // closes the connection
}
assert.deepEqual(numbers(had), upTo(5));

const rest = await client.responses.retrieve('run-42', {stream: true, starting_after: 4});
await fetch(`${app}/rest`, {method: 'POST'});
const more = await list(rest);
assert.deepEqual(numbers([...had, ...more]), upTo(18));
assert.equal(more.at(-1).type, 'response.completed');
const text = [...had, ...more].filter(event => event.type === 'response.output_text.delta').map(event => event.delta).join('');
assert.equal(text, '1 2 3 4 5 6 7 8 9 10 ');

const again = await list(await client.responses.retrieve('run-42', {stream: true}));
assert.deepEqual(again, [...had, ...more], 'kept after its end');
