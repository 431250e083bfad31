// A browser and a hub, as evstream.js sees them, whose steps come in an order that a seed
// chooses. tabs(connect, seed, local) plays one run, and returns what went wrong in it.
//
// Messages go through a pipe for each process to a place that passes them on. Each tab has a
// process of its own, so that all tabs get all messages in the same order, as in Chromium and
// Firefox. With local there are two processes, and a message goes straight to the tabs of its
// own, as in WebKit, where events may be lost when two tabs in a row crash as they lead: that
// must be told. Locks know nothing of pipes: what a tab has said may be in a pipe when the tab
// is gone.
window.tabs = async (connect, seed, local) => {
	const random = n => {
		seed = seed + 0x6D2B79F5 | 0;
		let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
		t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
		return ((t ^ t >>> 14) >>> 0) % n;
	};
	const pick = list => list[random(list.length)];
	const all = []; // tabs: { id, process, live, got, values, inbox, gone }
	const log = []; // of the hub: { event } or { patch, value }
	const locks = new Map(); // by name: { holder, queue }
	const ports = [], pipes = new Map(), faults = [];
	let current, streams = [], clock = 1, young = false;
	const settled = async () => { for (let n = 0; n < 20; n++) await null; };
	const as = async (tab, f) => { current = tab; f(); await settled(); };
	const lock = name => locks.get(name) ?? locks.set(name, { queue: [] }).get(name);

	class FakeChannel {
		constructor() {
			this.tab = current;
			ports.push(this);
		}
		postMessage(data) {
			if (this.closed) throw Error('a closed channel posts');
			const message = { from: this, data: structuredClone(data) };
			if (local) pass(message, this.tab.process, true);
			const { process } = this.tab;
			if (!pipes.has(process)) pipes.set(process, []);
			pipes.get(process).push(message);
		}
		close() { this.closed = true; }
	}
	const pass = (message, process, same) => ports.forEach(p => {
		if (p === message.from || p.closed || p.tab.gone || !p.onmessage) return;
		if (!local || (p.tab.process === process) === same) p.tab.inbox.push(() => p.closed || p.onmessage({ data: structuredClone(message.data) }));
	});
	const fakeLocks = {
		request(name, f) {
			const tab = current;
			return new Promise(done => lock(name).queue.push({ tab, f, done }));
		},
	};
	class FakeSource extends EventTarget {
		constructor(url) {
			super();
			const last = new URL(url).searchParams.get('last_event_id');
			Object.assign(this, { tab: current, at: last === null ? log.length : +last, opened: false, readyState: 1 });
			streams.push(this);
		}
		close() { streams = streams.filter(s => s !== this); }
		tell(type, data, id) { this.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(data), lastEventId: String(id) })); }
		step() {
			const frame = (ch, event, data) => ({ ch, event, data: JSON.stringify(data) });
			if (!this.opened) {
				this.opened = true;
				this.tell('evstream.open', { session: 'x', channels: ['a', 'v'], values: ['v'] }, this.at);
				// Whole, of now; patches up to it are skipped.
				this.whole = log.length;
				return this.tell('message', frame('v', 'v', { value: valueAt(this.whole) }), this.at);
			}
			const entry = log[this.at++];
			if (entry.event) this.tell('message', { ch: 'a', event: 'message', data: entry.event }, this.at);
			else if (this.at > this.whole) this.tell('message', frame('v', 'v', { patch: entry.patch }), this.at);
			else this.tell('evstream.at', {}, this.at);
		}
		get pending() { return !this.opened || this.at < log.length; }
	}
	const valueAt = n => log.slice(0, n).findLast(e => e.value)?.value ?? [];

	const globals = { BroadcastChannel, EventSource, Date }, { locks: realLocks } = navigator;
	Object.assign(window, { BroadcastChannel: FakeChannel, EventSource: FakeSource, Date: { now: () => clock += 1000 } });
	Object.defineProperty(navigator, 'locks', { value: fakeLocks, configurable: true });

	const begin = () => {
		const tab = { id: all.length, process: local ? random(2) : all.length, got: [], values: [], inbox: [] };
		all.push(tab);
		return as(tab, () => {
			tab.live = connect('/live');
			tab.live.addEventListener('gap', e => { e.preventDefault(); tab.gap = e.detail.reason; });
			tab.live.on('a', e => {
				const n = +e.data, last = tab.got.at(-1) ?? n - 1;
				if (n <= last || n > last + 1 && !tab.gap) faults.push('tab ' + tab.id + ' is told ' + n + ' after ' + last);
				if (tab.gap && !young && !local) faults.push('tab ' + tab.id + ' is told a gap: ' + tab.gap);
				tab.gap = '';
				tab.got.push(n);
			});
			tab.live.value('v', v => tab.gone || v && tab.values.push(v));
		});
	};
	// One that leads before it knows what others know begins anew, and says so.
	const crash = tab => {
		young ||= living().some(t => t.live.state !== 'open');
		tab.gone = true;
		streams = streams.filter(s => s.tab !== tab);
		for (const l of locks.values()) {
			if (l.holder === tab) l.holder = undefined;
			l.queue = l.queue.filter(r => r.tab !== tab);
		}
	};
	const grant = async l => {
		const { tab, f, done } = l.queue.shift();
		l.holder = tab;
		await as(tab, () => Promise.resolve(f()).then(() => { if (l.holder === tab) l.holder = undefined; done(); }));
	};
	const living = () => all.filter(t => !t.gone);
	let events = 0;
	const publish = () => {
		if (random(3)) log.push({ event: ++events });
		else log.push({ patch: [{ op: 'add', path: '/0', value: log.length }], value: [log.length, ...valueAt(log.length)] });
	};
	// What may happen next, to any of whom.
	const steps = () => [
		...living().filter(t => t.inbox.length).map(t => () => as(t, t.inbox.shift())),
		...[...pipes.values()].filter(p => p.length).map(p => async () => { const m = p.shift(); pass(m, m.from.tab.process, false); }),
		...[...locks.values()].filter(l => !l.holder && l.queue.length).map(l => () => grant(l)),
		...streams.filter(s => s.pending).map(s => () => as(s.tab, () => s.step())),
	];
	const drain = async () => { for (let next; (next = steps()).length;) await pick(next)(); };

	for (let n = 0; n < 3; n++) await begin();
	await drain();
	for (let n = 0; n < 150; n++) {
		const chance = random(100);
		if (chance < 20) publish();
		else if (chance < 23 && living().length > 1) crash(pick(living()));
		else if (chance < 25 && living().length < 4) await begin();
		else await (pick(steps()) ?? publish)();
	}
	await drain();
	publish();
	log.push({ event: ++events });
	await drain();

	if (streams.length !== 1) faults.push(streams.length + ' streams');
	for (const { id, got, values, gone, live } of all) {
		values.forEach((v, i) => { if (JSON.stringify(v) !== JSON.stringify(valueAt(v.length ? v[0] + 1 : 0))) faults.push('tab ' + id + ' has no value that was: ' + v); });
		if (!gone && got.at(-1) !== events) faults.push('tab ' + id + ' is told ' + got.at(-1) + ' last, of ' + events);
		if (!gone && String(values.at(-1) ?? '') !== String(valueAt(log.length))) faults.push('tab ' + id + ' has an old value');
		current = all[id];
		live.close();
	}
	Object.assign(window, globals);
	Object.defineProperty(navigator, 'locks', { value: realLocks, configurable: true });
	return faults;
};
