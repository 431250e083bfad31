// Counts who is online, for pages that subscribe to user-count: npm install express standardwebhooks
import express from 'express';
import {Webhook} from 'standardwebhooks';

const admin = process.env.EVSTREAM_ADMIN ?? 'http://localhost:2019';
const hook = new Webhook(process.env.EVSTREAM_HOOK_SECRET);
const online = new Set(); // sessions
const app = express();

app.post('/hooks', express.text({type: 'application/json'}), async (req, res) => {
  const {type, data} = hook.verify(req.body, req.headers); // throws if the signature is not good
  if (type === 'evstream.connected') online.add(data.session);
  if (type === 'evstream.disconnected') online.delete(data.session);
  await fetch(`${admin}/evstream/user-count`, {method: 'PUT', body: JSON.stringify(online.size)});
  res.sendStatus(204);
});

app.use((err, req, res, next) => res.sendStatus(401)); // nobody else is told why
app.listen(process.env.PORT ?? 3000, 'localhost', () => console.log('listening'));
