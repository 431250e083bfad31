package broker

import "strconv"

// The model's filters: events that are for some readers only, by session or by who they
// are.

// modelAudience is a reader's user, a number.
type modelAudience int

// Is implements Audience.
func (a modelAudience) Is(term string) bool { return term == "user:"+strconv.Itoa(int(a)) }

// audience is who r is, nil for some.
func (r *modelReader) audience() Audience {
	if n := r.user(); n > 0 {
		return modelAudience(n)
	}
	return nil
}

// user is the number of r's user, 0 for none.
func (r *modelReader) user() int {
	n, _ := strconv.Atoi(r.id[1:])
	return n % 4
}

func (m *model) term() string {
	if m.rng.IntN(3) == 0 && len(m.readers) > 0 {
		return "session:" + m.pick().id
	}
	return "user:" + strconv.Itoa(m.rng.IntN(4))
}

func (m *model) filter() *Filter {
	f := &Filter{}
	for range m.rng.IntN(3) {
		f.To = append(f.To, m.term())
	}
	for range m.rng.IntN(3) {
		f.Except = append(f.Except, m.term())
	}
	return f
}

// passes is what a filter says, written another way.
func (r *modelReader) passes(f *Filter) bool {
	if f == nil || r.id == "anybody" { // see hiddenLoss
		return true
	}
	named := func(terms []string) (is bool) {
		for _, term := range terms {
			is = is || term == "session:"+r.id || r.user() > 0 && term == "user:"+strconv.Itoa(r.user())
		}
		return is
	}
	return !named(f.Except) && (len(f.To) == 0 || named(f.To))
}
