// Package nearest finds the word that somebody meant who misspelt it.
package nearest

// Hint is `; did you mean "…"?` with the nearest of words, or "" if none is near.
func Hint(word string, words ...string) string {
	if w := Word(word, words...); w != "" {
		return `; did you mean "` + w + `"?`
	}
	return ""
}

// Word returns the word that differs least from the one that was written: by one
// letter that is another, missing, too much or swapped with the next, or, from five
// letters on, by two. It returns "" if there is none.
func Word(written string, words ...string) string {
	most := 1
	if len(written) > 4 {
		most = 2
	}
	if len(written) > 64 {
		return ""
	}
	var best string
	for _, w := range words {
		if d := distance(written, w); d <= most && w != written {
			best, most = w, d-1
		}
	}
	return best
}

// distance counts the letters that were changed, inserted, left out or swapped.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			changed := last[j]
			if a[i] != b[j] {
				changed++
			}
			row[j+1] = min(changed, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
