// The pulse: how many events arrived in each of the last sixty seconds. A cut is
// a hole in it, and the replay the column beside the hole.

import { svg } from "./dom.js";

const SECONDS = 60;
const HEIGHT = 56;
const STEP = 300 / SECONDS;

export class Pulse {
	#seconds = new Map(); // second -> {live, late, off}
	#node;

	constructor(node, stream) {
		this.#node = node;
		setInterval(() => {
			if (stream.state !== "live") this.#at(now()).off = true;
			this.#draw();
		}, 500);
	}

	take(event) {
		if (event.history) return;
		this.#at(now())[event.late ? "late" : "live"]++;
	}

	#at(second) {
		if (!this.#seconds.has(second)) {
			this.#seconds.set(second, { live: 0, late: 0, off: false });
			for (const old of this.#seconds.keys()) if (old <= second - SECONDS) this.#seconds.delete(old);
		}
		return this.#seconds.get(second);
	}

	#draw() {
		if (document.hidden) return;
		const end = now();
		const shown = [];
		let most = 8;
		for (const { live, late } of this.#seconds.values()) most = Math.max(most, live + Math.min(late, 3 * most));
		for (let i = 0; i < SECONDS; i++) {
			const x = i * STEP + 0.6;
			const second = this.#seconds.get(end - SECONDS + 1 + i);
			const place = { x, width: STEP - 1.2, rx: 1.2 };
			if (second?.off) shown.push(svg("rect.off", { ...place, y: 0, height: HEIGHT, rx: 0, x: x - 0.6, width: STEP }));
			if (!second || second.live + second.late === 0) {
				shown.push(svg("rect.floor", { ...place, y: HEIGHT - 2, height: 2 }));
				continue;
			}
			const low = Math.min(second.live / most, 1) * HEIGHT;
			const high = Math.min(second.late / most, 1 - low / HEIGHT) * HEIGHT;
			if (low) shown.push(svg("rect", { ...place, y: HEIGHT - low, height: Math.max(low, 2) }));
			if (high) shown.push(svg("rect.late", { ...place, y: HEIGHT - low - high, height: Math.max(high, 2) }));
		}
		this.#node.replaceChildren(...shown);
	}
}

const now = () => Math.floor(Date.now() / 1000);
