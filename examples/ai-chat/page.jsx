// The page: useChat with resume, and two things that a page has to do itself. It comes
// back after a cut, and stop is a request to the server.
import {useChat} from '@ai-sdk/react';
import {generateId} from 'ai';
import {useEffect, useState} from 'react';
import {createRoot} from 'react-dom/client';

function Chat({id, before}) {
  const {messages, sendMessage, regenerate, resumeStream, status, error} = useChat({id, messages: before, resume: true});
  const [text, setText] = useState('Count to 500');
  const cut = error instanceof TypeError; // what fetch throws when the network fails

  useEffect(() => {
    if (!cut) return;
    const again = setTimeout(() => resumeStream(), 500 + 500 * Math.random());
    return () => clearTimeout(again);
  }, [error]);

  const busy = cut || status === 'submitted' || status === 'streaming';
  const stop = () => fetch(`/api/chat/${encodeURIComponent(id)}?stop`, {method: 'DELETE'});
  // no-cache asks for another answer: an equal request would get the one that is kept.
  const retry = () => regenerate({headers: {'Cache-Control': 'no-cache'}});
  return <main data-status={cut ? 'cut' : status}>
    {messages.map(({id, role, parts}) => <article key={id} data-role={role}>
      {parts.map((part, i) => part.type === 'text' && <span key={i}>{part.text}</span>)}
    </article>)}
    {cut && <p>The connection is cut; trying again.</p>}
    {error && !cut && <p role="alert">{error.message}</p>}
    <form onSubmit={e => { e.preventDefault(); sendMessage({text}); }}>
      <input value={text} onChange={e => setText(e.target.value)} aria-label="message" />
      <button disabled={busy}>Send</button>
      <button type="button" id="stop" disabled={!busy} onClick={stop}>Stop</button>
      <button type="button" id="retry" disabled={busy || !messages.length} onClick={retry}>Again</button>
    </form>
    <p>Reload this page while it counts, or open <a href={location.href} target="_blank">its address</a> on another device.</p>
  </main>;
}

const id = new URLSearchParams(location.search).get('chat') ?? generateId();
history.replaceState(null, '', `?chat=${encodeURIComponent(id)}`);
const before = await (await fetch(`/api/messages/${encodeURIComponent(id)}`)).json();
createRoot(document.getElementById('page')).render(<Chat id={id} before={before} />);
