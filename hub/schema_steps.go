package hub

import (
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A schema that names itself more than once for the same place takes twice as long for
// each level of the data: 200 bytes can take hours. The validator has no bound on that
// and cannot be canceled. It does call a keyword of ours, which each part of a schema is
// given when it is compiled: that counts the parts that were applied, and panics.

const (
	// A check may apply so many parts of a schema, and so many more for each byte of
	// the data.
	baseSteps = 50_000
	byteSteps = 8
)

// stepCount is that keyword, of one compiled schema.
type stepCount struct{ left int }

// errSteps is what a check panics with that takes too many steps.
type errSteps struct{}

// Validate implements jsonschema.SchemaExt.
func (s *stepCount) Validate(*jsonschema.ValidatorContext, any) {
	if s.left--; s.left < 0 {
		panic(errSteps{})
	}
}

// vocabulary has a compiler give the keyword to each part of a schema.
func (s *stepCount) vocabulary() *jsonschema.Vocabulary {
	return &jsonschema.Vocabulary{
		URL:     "urn:evstream:vocabulary:steps",
		Compile: func(*jsonschema.CompilerContext, map[string]any) (jsonschema.SchemaExt, error) { return s, nil },
	}
}

// checker is a compiled schema, for one check at a time.
type checker struct {
	schema *jsonschema.Schema
	misfit *jsonschema.Schema // what does not fit schema
	steps  *stepCount
}

// validate checks data of a size; false if that takes too many steps.
func (c *checker) validate(schema *jsonschema.Schema, value any, size int) (err error, ended bool) { //nolint:revive // the error is the result
	c.steps.left = baseSteps + byteSteps*size
	defer func() {
		if p := recover(); p != nil {
			if _, ours := p.(errSteps); !ours {
				panic(p)
			}
			err, ended = nil, false
		}
	}()
	return schema.Validate(value), true
}

// checkers are the copies of one schema. It is safe for concurrent use.
type checkers struct {
	doc  any
	mu   sync.Mutex // guards what follows
	free []*checker // at most as many as were in use at a time: see schemaTurns
}

// acquire returns a checker that nobody else uses, until it is released.
func (c *checkers) acquire() (*checker, error) {
	c.mu.Lock()
	if n := len(c.free); n > 0 {
		defer c.mu.Unlock()
		last := c.free[n-1]
		c.free = c.free[:n-1]
		return last, nil
	}
	c.mu.Unlock()
	return compileDoc(c.doc)
}

func (c *checkers) release(one *checker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free = append(c.free, one)
}
