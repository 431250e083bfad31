// Rooms, held by the hub: npm install express @fanoutio/grip @fanoutio/serve-grip
import express from 'express';
import {ServeGrip} from '@fanoutio/serve-grip';

const url = process.env.GRIP_URL ?? `http://localhost:8080/_grip?iss=evstream&key=${process.env.GRIP_KEY}`;
const serveGrip = new ServeGrip({grip: url, gripProxyRequired: true});
const app = express();
const messages = {}; // by room
app.use(serveGrip);

app.get('/rooms/:room', (req, res) => {
  const room = messages[req.params.room] ??= [];
  const seen = Number(req.get('Last-Event-ID') ?? 0);
  const instruct = res.grip.startInstruct();
  instruct.addChannel(`room ${req.params.room}`);
  instruct.setHoldStream();
  instruct.setKeepAlive('event: keep-alive\ndata:\n\n', 20);
  res.set('Content-Type', 'text/event-stream');
  const events = room.slice(seen).map((text, i) => `id: ${seen + i + 1}\ndata: ${text}\n\n`);
  res.end(`event: stream-open\ndata: ${req.grip.isSigned}\n\n${events.join('')}`);
});

app.post('/rooms/:room', express.text(), async (req, res) => {
  const room = messages[req.params.room] ??= [];
  const id = room.push(req.body);
  await serveGrip.getPublisher().publishHttpStream(`room ${req.params.room}`, `id: ${id}\ndata: ${req.body}\n\n`);
  res.sendStatus(204);
});

app.listen(process.env.PORT ?? 3000, 'localhost', () => console.log('listening'));
