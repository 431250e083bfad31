// The application: a chat as the AI SDK's documents have it. When its connection is
// closed it hangs up on the model. It knows nothing of resuming, of other devices or of
// evstream: that is all in the Caddyfile.
import {convertToModelMessages, generateId, pipeUIMessageStreamToResponse, streamText, toUIMessageStream} from 'ai';
import express from 'express';
import {model, seen} from './model.mjs';

const chats = new Map(); // in real life a database
const app = express();

app.post('/api/chat', express.json({limit: '1mb'}), async (req, res) => {
  const {id, messages} = req.body; // in real life: is the chat this user's?
  chats.set(id, messages);
  const hangUp = new AbortController();
  res.on('close', () => hangUp.abort());
  const answer = streamText({model, messages: await convertToModelMessages(messages), abortSignal: hangUp.signal});
  await pipeUIMessageStreamToResponse({
    response: res,
    stream: toUIMessageStream({
      stream: answer.stream,
      originalMessages: messages,
      generateMessageId: generateId,
      onEnd: ({messages}) => chats.set(id, messages),
    }),
  });
});

app.get('/api/messages/:id', (req, res) => res.json(chats.get(req.params.id) ?? []));
app.get('/api/model', (req, res) => res.json(seen));
app.use(express.static('www'));
app.listen(process.env.PORT ?? 3000, 'localhost');
