//! Apache-2.0
// evstream.js: events, values and presence of an evstream hub in a page, over one stream
// that all tabs share. docs/browser.md is its manual. Hubs serve evstream.min.js, which
// "make client" makes of it: with gzip it is less than 3 KB, and a test holds it to that.

export function connect(base = new URL('.', import.meta.url), { token, share = '', credentials = 'same-origin' } = {}) {
	const root = new URL(base, location).href.replace(/\/*$/, '/'), tab = Math.random(), { locks } = navigator;
	// Change '#' when messages of tabs change: a tab may have the helper of before an update.
	const name = root + '#' + (share === false || !locks ? tab : share), live = new EventTarget();
	const subs = new Set(); // [kind, channel, callback]

	// What all tabs know alike, so that any of them can go on. seen counts events. value and
	// presence have by channel what callbacks get. wants has by tab its channels, with "?"
	// before them where it is presence.
	let known = { seen: 0, last: '', reads: [], value: new Map(), presence: new Map(), wants: new Map() };
	let others, synced, stop, due, beat = Date.now();

	let term = 0; // each tab that leads has a higher one than the one before

	// Of the tab that leads, which has the EventSource.
	let leads, source, present, timer, tries = 0;
	const asked = new Set();

	const tell = (type, detail) => live.dispatchEvent(new CustomEvent(type, { detail, cancelable: true }));
	const warn = (type, detail) => tell(type, detail) && console.warn('evstream', type, detail);
	const post = (kind, d, to) => others?.postMessage([kind, d, tab, to, term]);
	const wanted = (presence = '') => [...new Set([...known.wants.values()].flat().filter(c => c.startsWith(presence)).map(c => c.replace('?', '')))];
	const problem = async a => ({ status: a.status, detail: '' + a, ...await a.json?.().catch(() => 0) });
	const call = (s, channel, args) => matches(s[1], channel) && queueMicrotask(() => subs.has(s) && s[2](...args));
	const each = (kind, channel, args) => subs.forEach(s => s[0] === kind && call(s, channel, args));

	function set(kind, channel, ...args) {
		known[kind].set(channel, args);
		each(kind, channel, args);
	}

	// begin tells a new subscription what is known.
	const begin = s => known[s[0]]?.forEach((args, channel) => call(s, channel, args));

	// matches: does a pattern select a channel, or something beneath "channel/"?
	function matches(pattern, channel) {
		const c = channel.replace(/\/$/, '');
		if (c !== channel) pattern = pattern.split('/', c.split('/').length).join('/');
		return RegExp('^' + pattern.replace(/\/?\*\*$|\W/g, s => ({ '/**': '(/.*)?', '**': '.*', '*': '[^/]*' })[s] ?? '\\' + s) + '$').test(c);
	}

	// patched applies a patch of RFC 7396 to an object, or one of RFC 6902 as hubs make it.
	function patched(old, patch) {
		const box = [structuredClone(old)], is = Array.isArray, plain = v => Object(v) === v && !is(v);
		const put = (to, key, v) => {
			if (v === null) delete to[key];
			else if (plain(v)) {
				if (!plain(to[key])) to[key] = {};
				for (const k in v) if (k !== '__proto__') put(to[key], k, v[k]);
			} else to[key] = v;
		};
		if (!is(patch)) put(box, 0, patch);
		else for (const { op, path, value } of patch) {
			let to = box, key = 0;
			for (const k of path.split('/').slice(1)) {
				to = to[key];
				key = k.replace(/~1/g, '/').replace(/~0/g, '~');
			}
			if (path.includes('__proto__')) continue;
			if (is(to) && op === 'add') to.splice(key, 0, value);
			else if (op === 'remove') is(to) ? to.splice(key, 1) : delete to[key];
			else to[key] = value;
		}
		return box[0];
	}

	// none says that a channel has no value.
	const none = c => (known.value.get(c) ?? [0])[0] === undefined || set('value', c, undefined, c);

	function reads({ channels, channel, values = [] }) {
		known.reads = channels;
		[known.value, known.presence].forEach(map => map.forEach((args, c) => channels.some(p => matches(p, c)) || map.delete(c)));
		channels.forEach(c => (channel ?? c) !== c || /\*/.test(c) || values.includes(c) || none(c));
		asked.delete(channel);
		settle();
	}

	// What the stream tells, in each tab.
	const on = {
		message({ ch, event, data }, id) {
			if (ch !== event) return each('on', ch, [{ channel: ch, event, data, id }]);
			const frame = JSON.parse(data), { deleted, patch } = frame;
			if (deleted) none(ch);
			else set('value', ch, patch ? patched(known.value.get(ch)?.[0], patch) : Object.values(frame)[0], ch);
		},
		open(d) {
			known.sid = d.session;
			tries = 0;
			asked.clear();
			reads(d);
			on.state('open');
		},
		joined: reads,
		left: reads,
		at() {},
		closed: d => tell('closed', d),
		gap(d) {
			known.value.forEach((args, c) => known.reads.includes(c) || none(c)); // those that are come again
			warn('gap', d);
		},
		presence({ channel, members, joined, left = [], updated = [], count }) {
			const all = new Map((joined ? [...known.presence.get(channel)?.[0] ?? [], ...joined, ...updated] : members)?.map(m => [m.user, m]));
			left.forEach(m => all.delete(m.user));
			set('presence', channel, [...all.values()], count);
		},
		expiring(d) {
			tell('expiring', d);
			if (leads && token) again(2000); // not at once, should token give one that expires, too
		},
		end(d) {
			subs.clear();
			known.wants.clear();
			known.last = '';
			reads({ channels: [] }); // which halts, as nothing is wanted
			on.state('ended');
			tell('end', d);
		},
		error: d => warn('error', d),
		state(s) { if (live.state !== s) tell('state', known.state = live.state = s); },
	};

	// say tells all tabs, this one too. n is the number of the newest event then.
	function say(type, d, id, event) {
		const message = [type, d, id, event, known.seen + !!event];
		post('do', message);
		take(message);
	}

	function take([type, d, id, event, n]) {
		const next = known.seen + !!event;
		if (n > next) warn('gap', { reason: 'tabs' });
		if (n >= next) {
			known.seen = n;
			known.last = id || known.last;
		} else if (event) return; // told by the leader before, in WebKit, which has no order of all messages
		on[type](d, id);
	}

	function hear({ data: [kind, d, from, to, at] }) {
		if (kind === 'do' && synced && at === term) take(d);
		if (kind === 'want') {
			if (leads && !known.wants.has(from)) watch(from);
			known.wants.set(from, d);
			if (leads && to) post('know', known, from);
			settle();
		}
		if (kind === 'know' && to === tab && !synced && at >= term) { // one answers each want
			term = at;
			if (known.seen && known.seen !== d.seen) warn('gap', { reason: 'tabs' });
			known = d;
			synced = true;
			on.state(d.state);
			subs.forEach(begin);
			want();
		}
		if (kind === 'led' && at > term) {
			term = at;
			if (from !== tab) return want();
			leads = synced = true;
			known.sid = 0;
			known.seen ||= at;
			known.wants.forEach((list, other) => watch(other));
			settle();
		}
		if (kind === 'reopen' && leads) open();
	}

	// watch forgets what a tab wants when it is gone, and its lock with it.
	const watch = other => other !== tab && locks.request(name + other, () => {
		known.wants.delete(other);
		settle();
	});

	function want() {
		const list = [...subs].map(([kind, c]) => (kind === 'presence' ? '?' : '') + c);
		due = 0;
		known.wants.set(tab, list);
		post('want', list, !synced);
		settle();
	}

	// settle has the session read what the tabs want.
	function settle() {
		if (!leads) return;
		const channels = wanted(), { reads, sid } = known;
		if (!channels[0]) halt();
		else if (!source) timer || open();
		else if (sid) {
			channels.forEach(c => reads.includes(c) || ask('PUT', c));
			reads.forEach(c => channels.includes(c) || ask('DELETE', c));
			if (wanted('?').some(c => reads.includes(c) && !present.includes(c))) open();
		}
	}

	async function ask(method, channel) {
		if (asked.has(channel)) return;
		asked.add(channel);
		const { sid } = known;
		const answer = await fetch(root + '_sessions/' + sid + '/channels/' + channel, { method, credentials }).catch(e => e);
		if (answer.ok || sid !== known.sid) return;
		say('error', { channel, ...await problem(answer) });
		setTimeout(() => { asked.delete(channel); settle(); }, 10000);
	}

	// open begins a stream, after the last event of the one before.
	async function open() {
		again(60000);
		const mine = timer, q = new URLSearchParams({ named: 0 });
		const failed = async e => say('error', await problem(e, again())); // which begins at once
		if (token) try {
			const answer = await fetch(root + '_tickets', { method: 'POST', headers: { Authorization: 'Bearer ' + await token() } });
			if (!answer.ok) throw answer;
			q.set('ticket', (await answer.json()).ticket);
		} catch (e) {
			return mine === timer && failed(e);
		}
		if (mine !== timer) return;
		halt();
		const { last, reads } = known, channels = wanted();
		let list = channels.filter(c => last && reads.includes(c));
		if (list[0]) q.set('last_event_id', last);
		else list = channels; // the others join
		list.forEach(c => q.append('channel', c));
		present = wanted('?').filter(c => list.includes(c));
		if (present[0]) q.set('presence', 1);
		const url = root + '?' + q, stream = source = new EventSource(url, { withCredentials: credentials === 'include' });
		for (const type in on) stream.addEventListener((type === 'message' || type === 'end' ? '' : 'evstream.') + type, ({ data, lastEventId: id }) => {
			let d;
			try { d = JSON.parse(data); } catch { /* an event to this session alone is as it was sent */ }
			const event = type === 'message';
			if (event && !d?.ch) tell(type, data);
			else if (type !== 'end' || id === 'evstream.end') say(type, d, id, event && d.ch !== d.event);
		});
		stream.onerror = async () => {
			known.sid = 0;
			say('state', 'connecting');
			if (stream.readyState < 2) { // it comes back by itself, to what its URL asks for
				if (known.reads.every(c => list.includes(c))) return;
				stream.close();
				return again();
			}
			// An EventSource does not say why.
			const answer = await fetch(url, { credentials }).catch(e => e);
			if (stream !== source) return;
			if (!answer.ok) return failed(answer);
			if (!answer.body) return say('end', {}); // 204
			answer.body.cancel();
			again();
		};
	}

	// again opens in 2 to 5 s, then in twice as long each time, up to 64 to 160 s.
	function again(ms = Math.min(2 ** tries++, 32) * (2000 + 3000 * Math.random())) {
		clearTimeout(timer);
		timer = setTimeout(open, ms);
	}

	function halt() {
		clearTimeout(timer);
		source?.close();
		source = timer = known.sid = undefined;
	}

	const reopen = () => leads ? open() : post('reopen');

	// lead tells all tabs, this one too, that it leads. What the one before has said ends there
	// for all of them, wherever the rest is: the stream goes on after that, and tells it again.
	function lead() {
		const all = new BroadcastChannel(name);
		all.postMessage(['led', 0, tab, 0, Math.max(Date.now(), term + 1)]);
		all.close();
	}

	// The tab that holds the lock leads. Another lock shows that a tab is there.
	function start() {
		if (others) return;
		const channel = others = new BroadcastChannel(name), until = new Promise(done => stop = done);
		channel.onmessage = hear;
		if (!locks) return lead();
		const hold = (lock, f) => locks.request(lock, () => { if (others === channel) f(); return until; });
		hold(name + tab, want);
		hold(name, lead);
	}

	function leave() {
		halt();
		stop?.();
		others?.close();
		others = leads = synced = undefined;
		term = 0;
	}

	// check finds out that the page or the machine slept, which a dead connection does not say.
	function check(e) {
		const slept = beat < (beat = Date.now()) - 90000;
		if (source && (slept || e && (e.type === 'online' || !known.sid))) open();
	}

	function subscribe(...sub) {
		const change = () => due ||= !queueMicrotask(want);
		// In a URL it would be another path.
		if (!new URL(root + sub[1]).pathname.endsWith(sub[1])) throw TypeError('no channel ' + sub[1]);
		subs.add(sub);
		change();
		begin(sub);
		return () => change(subs.delete(sub));
	}

	const interval = setInterval(check, 10000), page = { pagehide: leave, pageshow: start, online: check, visibilitychange: check };
	for (const type in page) addEventListener(type, page[type]);
	start();
	return Object.assign(live, {
		reopen,
		state: 'connecting',
		on: (channel, event, f) => subscribe('on', channel, f ? m => m.event === event && f(m) : event),
		value: (channel, f) => subscribe('value', channel, f),
		presence: (channel, f) => subscribe('presence', channel, f),
		close() {
			for (const type in page) removeEventListener(type, page[type]);
			clearInterval(interval);
			subs.clear();
			leave();
		},
	});
}
