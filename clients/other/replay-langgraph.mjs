// LangGraph's client streams a run, is cut off and joins it again by itself; another
// client joins the run from its start and from the middle.
import assert from 'node:assert/strict';
import {Client} from '@langchain/langgraph-sdk';
import {list} from './list.mjs';

const [site, app, network] = process.argv.slice(2);
const options = {streamMode: 'messages', streamResumable: true, onDisconnect: 'continue'};
const upTo = n => Array.from({length: n}, (_, i) => `${i}`);
const post = path => fetch(`${app}/${path}`, {method: 'POST'});
let run;
const had = [];
const first = new Client({apiUrl: network, apiKey: null});
for await (const event of first.runs.stream('thread-1', 'agent', {...options, input: {}, onRunCreated: created => run = created})) {
  had.push(event);
  if (had.length === 4) await post('cut');
  if (had.length === 5) await post('rest');
}
assert.deepEqual(had.map(event => event.id), upTo(12));
assert.deepEqual(run, {run_id: 'run-1', thread_id: 'thread-1'});

const second = new Client({apiUrl: site, apiKey: null});
const join = options => list(second.runs.joinStream(run.thread_id, run.run_id, options));
assert.deepEqual(await join(), had);
assert.deepEqual(await join({lastEventId: '-1'}), had, '-1 is the start');
assert.deepEqual(await join({lastEventId: '6'}), had.slice(7));
assert.equal(had.at(-1).event, 'end');
