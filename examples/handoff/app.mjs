// Live scores for those who have signed in. run.sh starts it.
import express from 'express';
import {randomUUID} from 'node:crypto';

const [, host, port] = /^(.*):(\d+)$/.exec(process.env.APP ?? 'localhost:3000');
const admin = `http://${process.env.ADMIN ?? 'localhost:2019'}`; // Caddy's, where the application publishes
const users = new Map(); // by session
const app = express().use(express.urlencoded(), express.json());

app.post('/login', (req, res) => {
  const session = randomUUID();
  users.set(session, req.body.user);
  res.cookie('session', session, {httpOnly: true, sameSite: 'strict'}).sendStatus(204);
});
app.use((req, res, next) => {
  req.user = users.get(/\bsession=([\w-]+)/.exec(req.headers.cookie)?.[1]);
  req.user ? next() : res.sendStatus(401);
});
app.use('/:sport/:match', ({params: {sport, match}}, res, next) =>
  /^(football|cricket)\/[\w-]+$/.test(`${sport}/${match}`) ? next() : res.sendStatus(404)); // no commas
app.get('/:sport/:match', ({user, params: {sport, match}}, res) => res
  .set({'Evstream-Channels': `${sport}/${match}`, 'Evstream-User': encodeURIComponent(user)})
  .end(`event: welcome\ndata: ${JSON.stringify({user})}\n\n`));

const emit = (to, type, data) => fetch(`${admin}/evstream/${to}?event=${type}`,
  {method: 'POST', headers: {Origin: admin}, body: JSON.stringify(data)});
app.post('/:sport/:match', async ({body, query, params: {sport, match}}, res) =>
  res.sendStatus((await emit(`${sport}/${match === 'all' ? '' : match}`, query.event, body)).ok ? 204 : 502));
app.listen(port, host);
