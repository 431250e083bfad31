package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/cli/internal/term"
	"github.com/evstream/caddy-evstream/client"
)

// maxInput bounds what is read from the standard input, unless it is read line by line:
// then it bounds a line.
const maxInput = 16 << 20

// input is the data that a command is given: the second argument, or what the standard
// input has, if that argument is "-" or missing. A line end at the end of the input is
// left out, unless it is to be taken verbatim.
func input(cmd *cobra.Command, args []string, what string, verbatim bool) ([]byte, error) {
	if len(args) > 1 && args[1] != "-" {
		return []byte(args[1]), nil
	}
	in := cmd.InOrStdin()
	if len(args) < 2 && term.IsTerminal(in) {
		return nil, misused("there is no %s: give it as the last argument, or at the standard input", what)
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the standard input: %w", err)
	case len(data) > maxInput:
		return nil, misused("the standard input has more than %d bytes", maxInput)
	case verbatim:
		return data, nil
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r")), nil
}

// lines yields a publication like p for each line of the standard input, until ctx ends.
func lines(ctx context.Context, cmd *cobra.Command, p client.Publication) iter.Seq2[client.Publication, error] {
	return func(yield func(client.Publication, error) bool) {
		s := bufio.NewScanner(cmd.InOrStdin())
		s.Buffer(nil, maxInput)
		// One line is read at a time, when it is wanted. What waits for the next one cannot be
		// interrupted, and ends with the input, or with this program.
		wanted, read := make(chan struct{}), make(chan bool, 1)
		defer close(wanted)
		go func() {
			for range wanted {
				read <- s.Scan()
			}
		}()
		for {
			select {
			case wanted <- struct{}{}:
			case <-ctx.Done():
				return
			}
			var more bool
			select {
			case more = <-read:
			case <-ctx.Done():
				return
			}
			if !more {
				break
			}
			p.Data = s.Bytes()
			if !yield(p, nil) {
				return
			}
		}
		if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
			yield(p, fmt.Errorf("a line of the standard input has more than %d bytes", maxInput))
		} else if err != nil {
			yield(p, fmt.Errorf("reading the standard input: %w", err))
		}
	}
}
