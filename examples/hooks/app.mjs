// Counts who is online, for pages that subscribe to user-count: npm install express standardwebhooks
import express from 'express';
import {Webhook, WebhookVerificationError} from 'standardwebhooks';

const admin = process.env.EVSTREAM_ADMIN ?? 'http://localhost:2019';
const hook = new Webhook(process.env.EVSTREAM_HOOK_SECRET);
const online = new Set(); // sessions
const app = express();

app.post('/hooks', express.text({type: 'application/json'}), async (req, res) => {
  const {type, data} = hook.verify(req.body, req.headers); // throws if the signature is not good
  if (type === 'evstream.connected') online.add(data.session);
  if (type === 'evstream.disconnected') online.delete(data.session);
  const headers = {Origin: admin}; // Caddy's admin endpoint wants it of a fetch
  const set = await fetch(`${admin}/evstream/user-count`, {method: 'PUT', headers, body: `${online.size}`});
  res.sendStatus(set.ok ? 204 : 502); // then it comes again
});

app.use((err, req, res, next) => res.sendStatus(err instanceof WebhookVerificationError ? 401 : 500));
app.listen(process.env.PORT ?? 3000, 'localhost', () => console.log('listening'));
