package scoreboard

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const roundsTried = 60

func TestARoundIsTheSameWhoeverPlaysIt(t *testing.T) {
	one, other := fixtures(), fixtures()
	for i, f := range one {
		for round := range int64(20) {
			if !reflect.DeepEqual(f.script(round), other[i].script(round)) {
				t.Fatalf("%s: round %d differs between two players", f.channel, round)
			}
		}
		if strings.HasSuffix(f.channel, "/") {
			continue
		}
		if reflect.DeepEqual(f.script(1), f.script(2)) {
			t.Errorf("%s: rounds 1 and 2 are the same", f.channel)
		}
	}
}

func TestMatchesOfOneRoundDiffer(t *testing.T) {
	list := fixtures()
	if reflect.DeepEqual(kinds(list[0].script(7)), kinds(list[1].script(7))) {
		t.Error("two football matches take the same course")
	}
}

func TestARoundBeginsAtZeroAndEndsBeforeTheNext(t *testing.T) {
	for _, f := range fixtures() {
		for round := range int64(roundsTried) {
			script := f.script(round)
			if script[0].at != 0 {
				t.Fatalf("%s: round %d begins at %d", f.channel, round, script[0].at)
			}
			for i := 1; i < len(script); i++ {
				if script[i].at <= script[i-1].at {
					t.Fatalf("%s: round %d: %s at %d follows %s at %d", f.channel, round,
						script[i].kind, script[i].at, script[i-1].kind, script[i-1].at)
				}
			}
			if last := script[len(script)-1]; last.at >= f.ticks {
				t.Fatalf("%s: round %d ends with %s at %d, the next begins at %d", f.channel, round, last.kind, last.at, f.ticks)
			}
		}
	}
}

func TestPositionGoesThroughARoundAndIntoTheNext(t *testing.T) {
	f := &fixture{ticks: 10, offset: 3}
	for _, row := range []struct{ tick, round, at int64 }{
		{0, 0, 3}, {6, 0, 9}, {7, 1, 0}, {16, 1, 9}, {17, 2, 0}, {1763687000, 176368700, 3},
	} {
		if round, at := f.position(row.tick); round != row.round || at != row.at {
			t.Errorf("tick %d is at %d of round %d, want %d of %d", row.tick, at, round, row.at, row.round)
		}
	}
}

func TestFootballScoresNeverGoBackWithinARound(t *testing.T) {
	seen := map[string]int{}
	for _, f := range fixtures()[:3] {
		for round := range int64(roundsTried) {
			var before footballState
			for _, m := range f.script(round) {
				seen[m.kind]++
				var now footballState
				decode(t, m, &now)
				if now.HomeScore < before.HomeScore || now.AwayScore < before.AwayScore || now.Minute < before.Minute ||
					now.Shots[0] < before.Shots[0] || now.Corners[1] < before.Corners[1] || len(now.Timeline) < len(before.Timeline) {
					t.Fatalf("%s: round %d: %s goes back from %+v to %+v", f.channel, round, m.kind, before, now)
				}
				goals := 0
				for _, i := range now.Timeline {
					if i.Kind == "goal" {
						goals++
					}
				}
				if goals != now.HomeScore+now.AwayScore {
					t.Fatalf("%s: round %d: %d goals on the timeline, score %d-%d", f.channel, round, goals, now.HomeScore, now.AwayScore)
				}
				if now.Ball[0]+now.Ball[1] != 100 {
					t.Fatalf("%s: round %d: possession %v", f.channel, round, now.Ball)
				}
				before = now
			}
			if before.Phase != phaseFullTime || before.FinalScore == "" {
				t.Fatalf("%s: round %d ends as %+v", f.channel, round, before)
			}
		}
	}
	for _, kind := range []string{"kick_off", "score_update", "yellow_card", "red_card", "half_time", "match_end", "clock"} {
		if seen[kind] == 0 {
			t.Errorf("no %s in %d rounds", kind, 3*roundsTried)
		}
	}
}

func TestCricketTotalsNeverGoBackWithinAnInnings(t *testing.T) {
	seen := map[string]int{}
	for _, f := range fixtures()[3:5] {
		for round := range int64(roundsTried) {
			var before cricketState
			for _, m := range f.script(round) {
				seen[m.kind]++
				var now cricketState
				decode(t, m, &now)
				if now.Innings == before.Innings && (now.TotalRuns < before.TotalRuns || now.TotalWickets < before.TotalWickets) {
					t.Fatalf("%s: round %d: %s goes back from %+v to %+v", f.channel, round, m.kind, before, now)
				}
				if now.TotalWickets > wickets || len(now.Batters) > 2 || len(now.Recent) > recentBalls {
					t.Fatalf("%s: round %d: %s says %+v", f.channel, round, m.kind, now)
				}
				before = now
			}
			if before.Phase != phaseStumps || before.Result == "" || before.Innings != 2 {
				t.Fatalf("%s: round %d ends as %+v", f.channel, round, before)
			}
		}
	}
	for _, kind := range []string{"toss", "ball", "boundary", "wicket", "over_complete", "innings_break", "match_end"} {
		if seen[kind] == 0 {
			t.Errorf("no %s in %d rounds", kind, 2*roundsTried)
		}
	}
}

func TestEventsCarryTheFieldsOfTheirKind(t *testing.T) {
	fields := map[string][]string{
		"score_update":  {"match", "homeScore", "awayScore", "minute", "player", "team"},
		"red_card":      {"match", "player", "team", "minute"},
		"match_end":     {"match"},
		"wicket":        {"match", "player", "team", "totalWickets", "over"},
		"boundary":      {"match", "player", "runs", "over"},
		"over_complete": {"match", "oversPlayed", "runsInOver"},
		"announcement":  {"message"},
	}
	for _, f := range fixtures() {
		for round := range int64(roundsTried) {
			for _, m := range f.script(round) {
				var object map[string]any
				decode(t, m, &object)
				for _, field := range fields[m.kind] {
					if _, ok := object[field]; !ok {
						t.Fatalf("%s: %s has no %s: %s", f.channel, m.kind, field, m.data)
					}
				}
			}
		}
	}
}

func decode(t *testing.T, m moment, into any) {
	t.Helper()
	if err := json.Unmarshal(m.data, into); err != nil {
		t.Fatalf("%s at %d: %v", m.kind, m.at, err)
	}
}

func kinds(script []moment) []string {
	var list []string
	for _, m := range script {
		list = append(list, m.kind)
	}
	return list
}
