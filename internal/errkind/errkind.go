// Package errkind makes sentinel errors that say, where they are defined, what a
// client is told of them and how they are counted.
//
// Nothing here knows the kinds: they are the names of problem types, and the
// package that answers requests finds them through the methods, with errors.As.
// Where an error wraps several of these, errors.As finds the outermost first.
package errkind

// New makes a sentinel error of a kind of problem. Reason is what it is counted
// under in metrics; "" where it is not counted by itself. Clients are told the
// whole error that wraps it.
//
// Each call makes another error: errors.Is compares identities.
func New(kind, reason, text string) error {
	return &kindError{kind: kind, reason: reason, text: text}
}

// Opaque is New for errors of which clients are told the text alone, and nothing
// of what it is wrapped with, such as an address that did not answer.
func Opaque(kind, reason, text string) error {
	return &kindError{kind: kind, reason: reason, text: text, opaque: true}
}

// kindError does not change, and may be used concurrently.
type kindError struct {
	kind, reason, text string
	opaque             bool
}

func (e *kindError) Error() string { return e.text }

// ProblemKind is the kind of problem that the error is.
func (e *kindError) ProblemKind() string { return e.kind }

// MetricReason is what the error is counted under; "" where it is not.
func (e *kindError) MetricReason() string { return e.reason }

// ProblemDetail is all that clients are told of the error; "" where that is what
// the error that wraps it says.
func (e *kindError) ProblemDetail() string {
	if e.opaque {
		return e.text
	}
	return ""
}
