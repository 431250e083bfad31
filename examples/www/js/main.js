// The page: one stream, and the parts that show it.

import { Board } from "./board.js";
import { Feed } from "./feed.js";
import { Link } from "./link.js";
import { Publisher } from "./publish.js";
import { Stream } from "./stream.js";

// Two patterns, five matches and any that are yet to come: one connection.
const CHANNELS = ["football/*", "cricket/*"];

// An EventSource delivers only the types that it has a listener for.
const TYPES = [
	"message", "announcement", "snapshot",
	"kick_off", "clock", "score_update", "yellow_card", "red_card", "substitution", "corner", "shot", "half_time", "match_end",
	"toss", "ball", "boundary", "wicket", "over_complete", "innings_break", "player_of_the_match",
];

const stream = new Stream("/live", CHANNELS, TYPES, 100);
const board = new Board(stream);
const feed = new Feed();
const link = new Link(stream, feed);
const publisher = new Publisher(stream, board, feed, (words, kind) => link.say(words, kind, 8000));

stream.addEventListener("event", ({ detail: event }) => {
	board.take(event);
	feed.take(event);
	link.take(event);
	publisher.take(event);
});

stream.open();
