// The AI SDK's transport and parser read an answer, leave it and come back to it.
import assert from 'node:assert/strict';
import {DefaultChatTransport, readUIMessageStream} from 'ai';
import {list} from './list.mjs';

const [site, app] = process.argv.slice(2);
const transport = new DefaultChatTransport({api: `${site}/ai/chat`});
const messages = [{id: 'm1', role: 'user', parts: [{type: 'text', text: 'Count.'}]}];
const text = async stream => {
  let last;
  for await (const message of readUIMessageStream({stream})) last = message;
  return last.parts.filter(part => part.type === 'text').map(part => part.text).join('');
};
const send = (chatId, abortSignal) => transport.sendMessages({chatId, messages, abortSignal, trigger: 'submit-message'});

assert.equal(await transport.reconnectToStream({chatId: 'chat-7'}), null, 'nothing is active yet');

const leave = new AbortController();
const had = [];
await assert.rejects(async () => {
  for await (const chunk of await send('chat-7', leave.signal)) if (had.push(chunk) === 5) leave.abort();
}, {name: 'AbortError'});

const back = await transport.reconnectToStream({chatId: 'chat-7'});
const same = await send('chat-7'); // the same request again, as from a page that tries again
await fetch(`${app}/rest`, {method: 'POST'});
const [all, kept] = back.tee();
const chunks = await list(all);
assert.deepEqual(chunks.slice(0, had.length), had);
assert.equal(chunks.filter(chunk => chunk.type === 'text-delta').length, 10);
assert.equal(chunks.at(-1).type, 'finish');
assert.equal(await text(kept), '1 2 3 4 5 6 7 8 9 10 ');
assert.deepEqual(await list(same), chunks);
assert.deepEqual(await list(await transport.reconnectToStream({chatId: 'chat-7'})), chunks, 'kept after its end');

// An application that dies: its reader's connection is cut as it would be without a hub, and
// who comes back is told in words of this protocol.
await assert.rejects(list(send('dies')), TypeError);
const broken = await list(transport.reconnectToStream({chatId: 'dies'}));
assert.ok(broken.length > 2);
assert.deepEqual(broken.at(-1), {type: 'error', errorText: 'the answer was cut off'});
