package scoreboard

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
)

// A fixture is played over and over, a round at a time. Time is counted in
// ticks, one every pace of the wall clock. What happens in a round depends only
// on the fixture and the number of the round, so a player that starts later, or
// on another node, plays the same.
type fixture struct {
	channel string
	ticks   int64 // that a round takes, with the pause after it
	offset  int64 // keeps fixtures from starting together
	write   func(round int64, random *rand.Rand) []moment
}

// A moment is something that happens in a round. Its data carries all that a
// page shows of the match: any one event is enough to draw it.
type moment struct {
	at   int64 // ticks into the round
	kind string
	data json.RawMessage
}

// position returns the round of a tick, and the tick's position in it.
func (f *fixture) position(tick int64) (round, at int64) {
	tick += f.offset
	return tick / f.ticks, tick % f.ticks
}

// script returns the moments of a round in order, the first at 0.
func (f *fixture) script(round int64) []moment {
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(f.channel))
	return f.write(round, rand.New(rand.NewPCG(seed.Sum64(), uint64(round)))) //nolint:gosec // a game, not a secret
}

// A scribe collects the moments of a round.
type scribe struct{ moments []moment }

func (s *scribe) note(at int64, kind string, data any) {
	encoded, err := json.Marshal(data)
	if err != nil {
		panic(err) // only structs of this package come here, and all have fields
	}
	// Numbered, so that a page can tell whether it has seen all of them.
	step := fmt.Appendf(nil, `{"step":%d,`, len(s.moments)+1)
	s.moments = append(s.moments, moment{at: at, kind: kind, data: append(step, encoded[1:]...)})
}

// A team as a page shows it.
type team struct {
	Name string `json:"name"`
	Code string `json:"code"`

	squad []string // in batting order; goals are scored from the end
}

// fixtures are the matches that are played, and what is announced meanwhile.
func fixtures() []*fixture {
	return []*fixture{
		football("football/arsenal-vs-chelsea", 0,
			team{"Arsenal", "ARS", []string{"Bennett", "Okoro", "Lindqvist", "Marsh", "Duarte", "Hale", "Kimani", "Ferrer", "Adeyemi", "Winther", "Costa"}},
			team{"Chelsea", "CHE", []string{"Novak", "Traoré", "Whitlock", "Sané", "Pires", "Barrow", "Lemaire", "Quist", "Moreno", "Achebe", "Larsen"}}),
		football("football/barcelona-vs-real-madrid", 74,
			team{"Barcelona", "BAR", []string{"Soler", "Vidal", "Puig", "Ndiaye", "Roca", "Ferran", "Casals", "Oriol", "Bosch", "Tavares", "Riera"}},
			team{"Real Madrid", "RMA", []string{"Ortega", "Salas", "Blanco", "Kovač", "Rivas", "Lozano", "Prieto", "Mbaye", "Hierro", "Santos", "Luna"}}),
		football("football/bayern-vs-dortmund", 37,
			team{"Bayern", "FCB", []string{"Vogel", "Brandt", "Kessler", "Diallo", "Huber", "Stein", "Wolff", "Maier", "Yilmaz", "Koch", "Sommer"}},
			team{"Dortmund", "BVB", []string{"Reuter", "Jansen", "Albrecht", "Otto", "Seidel", "Nowak", "Krüger", "Balde", "Lange", "Peters", "Frank"}}),
		cricket("cricket/ind-vs-aus", 190,
			team{"India", "IND", []string{"R. Sharma", "V. Mehra", "S. Iyer", "K. Nair", "H. Patel", "A. Deshpande", "R. Joshi", "P. Yadav", "M. Singh", "J. Rao", "T. Khan"}},
			team{"Australia", "AUS", []string{"D. Walker", "T. Harris", "M. Boyd", "G. Mitchell", "C. Reid", "J. Foster", "A. Keane", "P. Doyle", "N. Abbott", "L. Shaw", "B. Quinn"}}),
		cricket("cricket/eng-vs-sa", 62,
			team{"England", "ENG", []string{"J. Ashford", "B. Pemberton", "H. Lowe", "O. Carr", "M. Talbot", "S. Wynn", "C. Hobbs", "A. Rashid", "R. Moss", "T. Ellery", "D. Pike"}},
			team{"South Africa", "SA", []string{"Q. van Wyk", "T. Bosman", "A. Malan", "D. Botha", "K. Dlamini", "W. Steyn", "M. Nkosi", "J. Fourie", "S. Mokoena", "L. Zulu", "R. Venter"}}),
		announcements("football/", 12,
			"All VAR reviews are suspended today",
			"Attendance across the grounds tonight: 168,402",
			"Rain is expected in the second half; the roof stays open",
			"Next round's draw is at noon tomorrow"),
		announcements("cricket/", 31,
			"Dew is settling: the umpires have approved a ball change",
			"Reserve day confirmed, should rain stop play",
			"The powerplay is two overs in this competition",
			"Tickets for the final go on sale at nine"),
	}
}

// announcements are published beneath a sport's channels: everyone who
// watches any of its matches gets them.
func announcements(beneath string, offset int64, messages ...string) *fixture {
	return &fixture{
		channel: beneath,
		ticks:   40,
		offset:  offset,
		write: func(round int64, _ *rand.Rand) []moment {
			var s scribe
			s.note(0, "announcement", map[string]string{
				"message": messages[round%int64(len(messages))],
			})
			return s.moments
		},
	}
}
