package scoreboard

import (
	"fmt"
	"math/rand/v2"
)

// A round of cricket, in ticks: ten overs a side, two ticks a ball.
const (
	oversASide     = 10
	ballsASide     = 6 * oversASide
	maxWides       = 5 // an innings
	ballTicks      = 2
	tossTicks      = 4
	inningsPause   = 12
	matchPause     = 20
	wickets        = 10
	cricketRound   = tossTicks + 2*(ballsASide+maxWides)*ballTicks + inningsPause + matchPause
	recentBalls    = 12
	bowlersASide   = 5
	ticksToTheHero = 6
)

// Phases of a cricket match.
const (
	phaseToss    = "toss"
	phasePlay    = "play"
	phaseInnings = "innings_break"
	phaseStumps  = "finished"
)

// cricketState is the whole of a match, and what just happened in it.
type cricketState struct {
	Sport        string   `json:"sport"`
	Match        string   `json:"match"`
	Round        int64    `json:"round"`
	Phase        string   `json:"phase"`
	Innings      int      `json:"innings"` // 1 or 2
	Home         team     `json:"home"`
	Away         team     `json:"away"`
	Batting      string   `json:"batting"` // home or away
	TotalRuns    int      `json:"totalRuns"`
	TotalWickets int      `json:"totalWickets"`
	Overs        string   `json:"overs"` // as it is shown: 6.3
	MaxOvers     int      `json:"maxOvers"`
	RunRate      float64  `json:"runRate"`
	First        *total   `json:"first,omitempty"` // of the innings before
	Target       int      `json:"target,omitempty"`
	NeedRuns     int      `json:"needRuns,omitempty"`
	NeedBalls    int      `json:"needBalls,omitempty"`
	Batters      []batter `json:"batters"`
	Bowler       bowler   `json:"bowler"`
	Recent       []string `json:"recent"` // the last balls: "•", "1", "4", "W", "wd", "|" between overs

	// Of the event alone.
	Player      string `json:"player,omitempty"`
	Team        string `json:"team,omitempty"`
	Runs        int    `json:"runs,omitempty"`
	Over        string `json:"over,omitempty"`
	OversPlayed int    `json:"oversPlayed,omitempty"`
	RunsInOver  *int   `json:"runsInOver,omitempty"`
	Text        string `json:"text,omitempty"`
	Result      string `json:"result,omitempty"`
}

type total struct {
	Runs    int    `json:"runs"`
	Wickets int    `json:"wickets"`
	Overs   string `json:"overs"`
}

type batter struct {
	Name  string `json:"name"`
	Runs  int    `json:"runs"`
	Balls int    `json:"balls"`
}

type bowler struct {
	Name    string `json:"name"`
	Runs    int    `json:"runs"`
	Wickets int    `json:"wickets"`
}

// cricketMatch writes a round.
type cricketMatch struct {
	scribe
	cricketState
	random *rand.Rand
	at     int64

	batting, bowling team
	balls, wides     int
	oversDone        int
	overRuns         int
	next             int // in the batting order
	attack           [bowlersASide]bowler
	best             batter
	bestTeam         string
}

func cricket(channel string, offset int64, home, away team) *fixture {
	return &fixture{
		channel: channel,
		ticks:   cricketRound,
		offset:  offset,
		write: func(round int64, random *rand.Rand) []moment {
			m := &cricketMatch{random: random, cricketState: cricketState{
				Sport: "cricket", Match: home.Name + " vs " + away.Name, Round: round,
				Home: home, Away: away, MaxOvers: oversASide, Recent: []string{},
			}}
			m.play()
			return m.moments
		},
	}
}

func (m *cricketMatch) play() {
	first := m.random.IntN(2)
	m.begin(1, first)
	m.Phase = phaseToss
	m.tell("toss", "", m.batting.Name, m.batting.Name+" win the toss and bat")
	m.at += tossTicks
	m.Phase = phasePlay
	m.innings()

	m.Phase = phaseInnings
	m.at++
	m.First = &total{m.TotalRuns, m.TotalWickets, m.Overs}
	m.Target = m.TotalRuns + 1
	m.tell("innings_break", "", m.batting.Name, fmt.Sprintf("%s finish on %d for %d", m.batting.Name, m.TotalRuns, m.TotalWickets))
	m.at += inningsPause - 1

	m.begin(2, 1-first)
	m.Phase = phasePlay
	m.innings()

	m.Phase = phaseStumps
	m.at++
	m.Result = m.result()
	m.NeedRuns, m.NeedBalls = 0, 0
	m.tell("match_end", "", "", m.Result)
	m.at += ticksToTheHero
	m.tell("player_of_the_match", m.best.Name, m.bestTeam,
		fmt.Sprintf("Player of the match: %s, %d off %d", m.best.Name, m.best.Runs, m.best.Balls))
}

// begin sends a side in to bat.
func (m *cricketMatch) begin(innings, side int) {
	m.Innings, m.Batting = innings, [2]string{"home", "away"}[side]
	m.batting, m.bowling = m.Home, m.Away
	if side == 1 {
		m.batting, m.bowling = m.Away, m.Home
	}
	m.TotalRuns, m.TotalWickets, m.RunRate = 0, 0, 0
	m.balls, m.wides, m.oversDone, m.overRuns = 0, 0, 0, 0
	m.Recent = []string{}
	m.Batters = []batter{{Name: m.batting.squad[0]}, {Name: m.batting.squad[1]}}
	m.next = 2
	for i := range m.attack {
		m.attack[i] = bowler{Name: m.bowling.squad[len(m.bowling.squad)-1-i]}
	}
	m.count()
}

// innings bowls until the overs or the wickets are gone, or the target is met.
func (m *cricketMatch) innings() {
	for !m.over() {
		m.at++
		m.ball()
		m.at++
		if m.balls%6 == 0 && m.Recent[len(m.Recent)-1] != "wd" {
			m.endOver()
		}
	}
	for _, b := range m.Batters {
		m.compare(b)
	}
}

func (m *cricketMatch) over() bool {
	return m.balls == ballsASide || m.TotalWickets == wickets || m.Innings == 2 && m.TotalRuns >= m.Target
}

func (m *cricketMatch) ball() {
	striker := &m.Batters[0]
	chance := m.random.Float64()
	if chance < 0.03 && m.wides < maxWides {
		m.wides++
		m.score(0, 1, "wd")
		m.tell("ball", "", m.batting.Name, "Wide down the leg side")
		return
	}
	m.balls++
	striker.Balls++
	m.Over = fmt.Sprintf("%d.%d", (m.balls-1)/6, (m.balls-1)%6+1)
	switch {
	case chance < 0.085:
		m.wicket()
	case chance < 0.165:
		m.boundary(6, [...]string{" launches it into the stands", " clears long-on with ease", " picks it up over midwicket"}[m.random.IntN(3)])
	case chance < 0.305:
		m.boundary(4, [...]string{" drives it through the covers", " cuts it past point", " sweeps it fine", " finds the gap at third"}[m.random.IntN(4)])
	default:
		runs := [...]int{0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 3}[m.random.IntN(14)]
		name := striker.Name
		m.score(runs, 0, [...]string{"•", "1", "2", "3"}[runs])
		m.tell("ball", name, m.batting.Name, [...]string{
			"No run, " + m.Bowler.Name + " keeps it tight", name + " takes a single", name + " comes back for two", name + " runs three",
		}[runs])
	}
}

func (m *cricketMatch) wicket() {
	out := m.Batters[0]
	m.compare(out)
	m.TotalWickets++
	m.attack[m.spell()].Wickets++
	m.score(0, 0, "W")
	if m.TotalWickets < wickets {
		m.Batters[0] = batter{Name: m.batting.squad[m.next]}
		m.next++
	} else {
		m.Batters = m.Batters[1:]
	}
	m.tell("wicket", out.Name, m.batting.Name, fmt.Sprintf("%s is %s %s for %d", out.Name,
		[...]string{"bowled by", "caught off", "lbw to"}[m.random.IntN(3)], m.Bowler.Name, out.Runs))
}

func (m *cricketMatch) boundary(runs int, how string) {
	name := m.Batters[0].Name
	m.score(runs, 0, fmt.Sprint(runs))
	m.Runs = runs
	m.tell("boundary", name, m.batting.Name, fmt.Sprintf("%s! %s%s", map[int]string{4: "Four", 6: "Six"}[runs], name, how))
}

// score adds a ball's runs; an odd number brings the other batter on strike.
func (m *cricketMatch) score(runs, extras int, shown string) {
	m.TotalRuns += runs + extras
	m.overRuns += runs + extras
	m.attack[m.spell()].Runs += runs + extras
	m.Batters[0].Runs += runs
	if runs%2 == 1 {
		m.turn()
	}
	m.recall(shown)
	m.count()
}

func (m *cricketMatch) endOver() {
	runs := m.overRuns
	m.RunsInOver, m.OversPlayed = &runs, m.balls/6
	m.overRuns = 0
	m.oversDone++
	m.turn()
	m.recall("|")
	m.tell("over_complete", "", m.batting.Name, fmt.Sprintf("End of over %d: %d from it", m.balls/6, runs))
}

func (m *cricketMatch) turn() {
	if len(m.Batters) == 2 {
		m.Batters[0], m.Batters[1] = m.Batters[1], m.Batters[0]
	}
}

func (m *cricketMatch) recall(ball string) {
	m.Recent = append(m.Recent, ball)
	m.Recent = m.Recent[max(0, len(m.Recent)-recentBalls):]
}

// spell is the index of the current bowler.
func (m *cricketMatch) spell() int { return m.oversDone % bowlersASide }

// count computes the figures that follow from balls and runs.
func (m *cricketMatch) count() {
	m.Overs = fmt.Sprintf("%d.%d", m.balls/6, m.balls%6)
	m.Bowler = m.attack[m.spell()]
	if m.balls > 0 {
		m.RunRate = float64(m.TotalRuns*600/m.balls) / 100
	}
	if m.Innings == 2 {
		m.NeedRuns, m.NeedBalls = max(m.Target-m.TotalRuns, 0), ballsASide-m.balls
	}
}

// compare keeps the best innings of the match.
func (m *cricketMatch) compare(b batter) {
	if b.Runs > m.best.Runs {
		m.best, m.bestTeam = b, m.batting.Name
	}
}

func (m *cricketMatch) result() string {
	switch {
	case m.TotalRuns >= m.Target:
		return fmt.Sprintf("%s win by %d wickets", m.batting.Name, wickets-m.TotalWickets)
	case m.TotalRuns == m.Target-1:
		return "Match tied"
	default:
		return fmt.Sprintf("%s win by %d runs", m.bowling.Name, m.Target-1-m.TotalRuns)
	}
}

func (m *cricketMatch) tell(kind, player, name, text string) {
	m.Player, m.Team, m.Text = player, name, text
	m.note(m.at, kind, m.cricketState)
	m.Runs, m.Over, m.RunsInOver, m.OversPlayed = 0, "", nil, 0
}
