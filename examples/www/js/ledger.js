// The ledger: what came twice, and what did not come at all.

import { number, object } from "./dom.js";

const POSITION = /^(\d+)-(\d+)$/;

export class Ledger {
	#newest = null; // the highest id so far
	#matches = new Map(); // channel -> the round and the step of its newest event

	duplicates = 0;
	lost = 0;

	/** Returns the time of an id, and counts it if it is not above all ids before it. Ids that publishers chose have no order. */
	order(id) {
		const parts = POSITION.exec(id);
		if (!parts) return null;
		const here = [BigInt(parts[1]), BigInt(parts[2])];
		const top = this.#newest;
		if (top && (here[0] < top[0] || (here[0] === top[0] && here[1] <= top[1]))) this.duplicates++;
		else this.#newest = here;
		return Number(here[0]);
	}

	/** The server's log was begun anew: its ids may be lower than those before. */
	restart() {
		this.#newest = null;
	}

	/**
	 * Counts the steps of a match that are missing before this one. The generator
	 * numbers them in each round; a snapshot is no step, but says where the match is.
	 */
	take(event) {
		const { round, step } = object(event.data);
		if (round === undefined || step === undefined) return;
		const here = { round: number(round), step: number(step) };
		const before = this.#matches.get(event.channel);
		this.#matches.set(event.channel, here);
		if (!before || event.type === "snapshot") return;
		const due = before.round === here.round ? before.step + 1 : 1;
		this.lost += Math.max(here.step - due, 0);
	}
}
