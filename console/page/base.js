"use strict";

// The mount, the credential, requests, and how things are written.

const base = location.pathname.replace(/\/_console\/?$/, "");
const $ = (id) => document.getElementById(id);

// el makes an element; text is text, never markup.
function el(name, properties = {}, ...children) {
	const e = document.createElement(name);
	for (const [key, value] of Object.entries(properties)) {
		if (key in e && key !== "list") e[key] = value;
		else e.setAttribute(key, value);
	}
	e.append(...children);
	return e;
}

const credential = {
	get: () => sessionStorage.getItem("evstream.token") || "",
	set: (token) => token ? sessionStorage.setItem("evstream.token", token) : sessionStorage.removeItem("evstream.token"),
};

// Refusal is a problem (RFC 9457) that the hub answers with.
class Refusal extends Error {
	constructor(status, problem) {
		super(problem.detail || problem.title || `status ${status}`);
		this.status = status;
	}
}

// ask makes a request beneath the mount. A server that is stuck does not answer, and does
// not refuse either: after a while that is an error.
async function ask(path, options = {}) {
	const headers = new Headers(options.headers);
	if (/[^!-~]/.test(credential.get())) throw new Refusal(401, { detail: "The credential has a character that none has, such as a space." });
	if (credential.get()) headers.set("Authorization", `Bearer ${credential.get()}`);
	const answer = await fetch(`${base}/${path}`, { signal: AbortSignal.timeout(10000), ...options, headers, cache: "no-store" });
	if (answer.ok || options.plain?.includes(answer.status)) return answer;
	let problem = {};
	try { problem = await answer.json(); } catch { /* not ours: something in front has answered */ }
	throw new Refusal(answer.status, problem);
}

const askJSON = async (path, options) => (await ask(path, options)).json();

// query makes a query of the parameters that are not empty.
function query(parameters) {
	const q = new URLSearchParams();
	for (const [name, value] of Object.entries(parameters)) if (value) q.set(name, value);
	return q.size ? `?${q}` : "";
}

const fields = (form) => Object.fromEntries(new FormData(form));

// pathOf is the path of a channel. With a segment ".." the browser would take the request,
// and the credential with it, to another path of the site.
function pathOf(channel) {
	const segments = channel.split("/");
	if (channel.startsWith("_")) throw new Error("Names that begin with _ belong to the hub.");
	if (segments[0] === "" || segments.some((s) => s === "." || s === "..")) throw new Error("A channel has segments between slashes, and none of them is “.” or “..”.");
	return segments.map(encodeURIComponent).join("/");
}

const whole = new Intl.NumberFormat("en");
const count = (n) => whole.format(Math.round(n));
function rate(n) {
	return n >= 100 || n === 0 ? count(n) : n.toFixed(1);
}
function bytes(n) {
	for (const unit of ["B", "KiB", "MiB", "GiB"]) {
		if (n < 1024 || unit === "GiB") return `${n < 10 && unit !== "B" ? n.toFixed(1) : Math.round(n)} ${unit}`;
		n /= 1024;
	}
	return "";
}
function seconds(s) {
	if (s === 0) return "0";
	if (s < 0.001) return `${Math.round(s * 1e6)} µs`;
	if (s < 1) return `${(s * 1000).toFixed(s < 0.01 ? 1 : 0)} ms`;
	return `${s.toFixed(s < 10 ? 1 : 0)} s`;
}
function age(ms) {
	const s = Math.max(0, Math.round(ms / 1000));
	if (s < 90) return `${s} s`;
	if (s < 5400) return `${Math.round(s / 60)} min`;
	if (s < 129600) return `${Math.round(s / 3600)} h`;
	return `${Math.round(s / 86400)} d`;
}
// timeOf is when a position was issued: an id is milliseconds and a number.
const timeOf = (id) => Number(id.split("-")[0]);

// set writes a text where it is another one: each write lays the page out.
function set(e, text) {
	if (e.textContent !== text) e.textContent = text;
}

// say writes what came of something beside its button.
function say(id, text, ok) {
	const e = $(id);
	e.textContent = text;
	if (ok === undefined) delete e.dataset.ok;
	else e.dataset.ok = ok ? "yes" : "no";
}

// sure asks before something is lost.
function sure(text, yes) {
	$("ask-text").textContent = text;
	$("ask-yes").textContent = yes;
	const dialog = $("ask-dialog");
	dialog.returnValue = "no";
	dialog.showModal();
	return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

// fill replaces the rows of a table: columns are [title, class], rows lists of nodes.
function fill(table, columns, rows, empty) {
	const head = el("tr", {}, ...columns.map(([title, type]) => el("th", { scope: "col", className: type || "" }, title)));
	const body = rows.map((cells) => el("tr", {}, ...cells.map((cell, i) => el("td", { className: columns[i][1] || "" }, cell))));
	if (!rows.length) body.push(el("tr", {}, el("td", { colSpan: columns.length, className: "empty" }, empty)));
	table.replaceChildren(head, ...body);
}

// A stream is read each so many milliseconds: what came meanwhile is one read, and not a
// wake-up an event. A piece that is not small is followed by the next one at once.
const pace = 50, small = 1 << 16;

// maxEvent bounds the text of an event that has not ended.
const maxEvent = 1 << 26;

// events reads a stream until signal is aborted, and gives on.blocks the texts of the events
// that came; parse reads one. It comes back as an EventSource does, which cannot send a
// credential.
async function events(path, signal, on) {
	let retry = 2000, cursor = "";
	const pause = (ms) => new Promise((done) => setTimeout(done, ms));
	while (!signal.aborted) {
		try {
			const headers = { Accept: "text/event-stream" };
			if (cursor) headers["Last-Event-ID"] = cursor;
			const answer = await ask(path, { headers, signal, plain: [204] });
			if (answer.status === 204) return on.end("the stream has ended for good");
			on.open();
			const reader = answer.body.getReader(), decoder = new TextDecoder();
			let rest = "\n"; // so that each field follows a line end
			for (;;) {
				const { value, done } = await reader.read();
				if (done) break;
				rest += decoder.decode(value, { stream: true });
				const end = rest.lastIndexOf("\n\n");
				if (end > 0) {
					const whole = rest.slice(0, end);
					rest = rest.slice(end + 1);
					cursor = newest(whole, "id") ?? cursor;
					const wait = newest(whole, "retry");
					if (/^\d+$/.test(wait)) retry = Number(wait);
					on.blocks(whole.slice(1).split("\n\n"));
				}
				if (rest.length > maxEvent) throw new Error(`An event has more than ${bytes(maxEvent)}`);
				if (value.length < small && !document.hidden) await pause(pace);
			}
			on.lost("The stream was cut");
		} catch (error) {
			if (signal.aborted) return;
			if (error instanceof Refusal && error.status < 500 && error.status !== 429) return on.end(error.message);
			on.lost(error.message);
		}
		await pause(retry);
	}
}

// newest is the last value of a field in the text of many events, undefined if there is none.
function newest(text, field) {
	const at = text.lastIndexOf(`\n${field}:`) + field.length + 2;
	if (at < field.length + 2) return undefined;
	const end = text.indexOf("\n", at);
	return text.slice(text[at] === " " ? at + 1 : at, end < 0 ? text.length : end);
}

// parse reads the text of an event.
function parse(block) {
	const e = { type: "message", data: "", id: "" };
	for (const line of block.split("\n")) {
		const at = line.indexOf(":");
		const name = line.slice(0, at), text = line.slice(at + (line[at + 1] === " " ? 2 : 1));
		if (name === "data") e.data += (e.data && "\n") + text;
		else if (name === "event") e.type = text;
		else if (name === "id") e.id = text;
	}
	return e;
}
