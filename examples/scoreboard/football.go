package scoreboard

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// A round of football, in ticks: a minute is one, added time included.
const (
	halfTimePause  = 10
	fullTimePause  = 15
	maxAddedTime   = 4
	footballRound  = 90 + 2*maxAddedTime + halfTimePause + fullTimePause
	firstHalfEnds  = 45
	secondHalfEnds = 90
)

// Phases of a football match.
const (
	phaseFirstHalf  = "first_half"
	phaseHalfTime   = "half_time"
	phaseSecondHalf = "second_half"
	phaseFullTime   = "full_time"
)

// footballState is the whole of a match, and what just happened in it.
type footballState struct {
	Sport     string     `json:"sport"`
	Match     string     `json:"match"`
	Round     int64      `json:"round"`
	Home      team       `json:"home"`
	Away      team       `json:"away"`
	HomeScore int        `json:"homeScore"`
	AwayScore int        `json:"awayScore"`
	Minute    int        `json:"minute"`
	Clock     string     `json:"clock"` // as it is shown: 45+2
	Phase     string     `json:"phase"`
	Shots     [2]int     `json:"shots"`
	Corners   [2]int     `json:"corners"`
	Ball      [2]int     `json:"possession"` // percent
	Timeline  []incident `json:"timeline"`   // goals and cards

	// Of the event alone.
	Player     string `json:"player,omitempty"`
	Team       string `json:"team,omitempty"`
	Text       string `json:"text,omitempty"`
	FinalScore string `json:"finalScore,omitempty"`
}

// An incident stays on the card until the match ends.
type incident struct {
	Kind   string `json:"kind"` // goal, yellow or red
	Side   string `json:"side"` // home or away
	Player string `json:"player"`
	Clock  string `json:"clock"`
}

// footballMatch writes a round.
type footballMatch struct {
	scribe
	footballState
	random  *rand.Rand
	at      int64
	booked  []string
	sentOff []string
}

func football(channel string, offset int64, home, away team) *fixture {
	return &fixture{
		channel: channel,
		ticks:   footballRound,
		offset:  offset,
		write: func(round int64, random *rand.Rand) []moment {
			m := &footballMatch{random: random, footballState: footballState{
				Sport: "football", Match: home.Name + " vs " + away.Name, Round: round,
				Home: home, Away: away, Timeline: []incident{},
			}}
			m.play()
			return m.moments
		},
	}
}

func (m *footballMatch) play() {
	share := 42 + m.random.IntN(17)
	m.Ball = [2]int{share, 100 - share}
	m.Phase, m.Clock = phaseFirstHalf, "0"
	m.tell("kick_off", "", "", "We are under way: "+m.Match)
	m.half(1, firstHalfEnds)

	m.Phase = phaseHalfTime
	m.at++
	m.tell("half_time", "", "", "Half-time, "+m.score())
	m.at += halfTimePause - 1

	m.Phase = phaseSecondHalf
	m.half(firstHalfEnds+1, secondHalfEnds)

	m.Phase = phaseFullTime
	m.at++
	m.FinalScore = fmt.Sprintf("%d-%d", m.HomeScore, m.AwayScore)
	m.tell("match_end", "", "", "Full time, "+m.score())
}

// half plays the minutes from first to last and some added time.
func (m *footballMatch) half(first, last int) {
	added := 1 + m.random.IntN(maxAddedTime)
	for minute := first; minute <= last+added; minute++ {
		m.at++
		m.Minute, m.Clock = min(minute, last), fmt.Sprint(minute)
		if minute > last {
			m.Clock = fmt.Sprintf("%d+%d", last, minute-last)
		}
		drift := min(max(m.Ball[0]+m.random.IntN(5)-2, 25), 75)
		m.Ball = [2]int{drift, 100 - drift}
		m.minute()
	}
}

// minute decides what a minute brings: mostly nothing.
func (m *footballMatch) minute() {
	side := 0
	if m.random.IntN(100) >= m.Ball[0] {
		side = 1
	}
	name := [2]string{m.Home.Name, m.Away.Name}[side]
	switch chance := m.random.Float64(); {
	case chance < 0.045:
		m.goal(side, name)
	case chance < 0.085:
		m.card(side, name)
	case chance < 0.165:
		m.Corners[side]++
		m.tell("corner", "", name, "Corner for "+name)
	case chance < 0.285:
		m.Shots[side]++
		player := m.pick(side, 5)
		m.tell("shot", player, name, player+[...]string{
			" shoots just wide", " hits the post", " forces a fine save", " blazes it over the bar",
		}[m.random.IntN(4)])
	case chance < 0.315 && m.Phase == phaseSecondHalf:
		player := m.pick(side, 1)
		m.tell("substitution", player, name, player+" makes way for fresh legs")
	default:
		m.tell("clock", "", "", "")
	}
}

func (m *footballMatch) goal(side int, name string) {
	player := m.pick(side, 6)
	if side == 0 {
		m.HomeScore++
	} else {
		m.AwayScore++
	}
	m.Shots[side]++
	m.remember("goal", side, player)
	m.tell("score_update", player, name, fmt.Sprintf("Goal! %s scores for %s", player, name))
}

func (m *footballMatch) card(side int, name string) {
	player := m.pick(side, 1)
	second := slices.Contains(m.booked, player)
	if second || m.random.IntN(6) == 0 {
		m.sentOff = append(m.sentOff, player)
		m.remember("red", side, player)
		text := player + " is sent off"
		if second {
			text = "Second yellow: " + text
		}
		m.tell("red_card", player, name, text)
		return
	}
	m.booked = append(m.booked, player)
	m.remember("yellow", side, player)
	m.tell("yellow_card", player, name, player+" is booked")
}

// pick returns a player who is on the pitch, but none of the first few.
func (m *footballMatch) pick(side, from int) string {
	squad := [2][]string{m.Home.squad, m.Away.squad}[side]
	for {
		player := squad[from+m.random.IntN(len(squad)-from)]
		if !slices.Contains(m.sentOff, player) {
			return player
		}
		from = 0 // whoever is left
	}
}

func (m *footballMatch) remember(kind string, side int, player string) {
	m.Timeline = append(m.Timeline, incident{
		Kind: kind, Side: [2]string{"home", "away"}[side], Player: player, Clock: m.Clock,
	})
}

func (m *footballMatch) tell(kind, player, name, text string) {
	m.Player, m.Team, m.Text = player, name, text
	m.note(m.at, kind, m.footballState)
}

func (m *footballMatch) score() string {
	return fmt.Sprintf("%s %d, %s %d", m.Home.Name, m.HomeScore, m.Away.Name, m.AwayScore)
}
