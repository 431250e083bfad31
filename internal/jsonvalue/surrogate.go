package jsonvalue

import "strconv"

// HalfSurrogate reports whether a JSON string has a \u escape of half a surrogate pair,
// which is no character.
func HalfSurrogate(raw []byte) bool {
	high := false // the escape before was the first half of a pair
	for i := 0; i < len(raw); i++ {
		escaped := raw[i] == '\\' && i+1 < len(raw)
		if escaped && raw[i+1] == 'u' && i+6 <= len(raw) {
			unit, _ := strconv.ParseUint(string(raw[i+2:i+6]), 16, 16)
			low := unit >= 0xDC00 && unit < 0xE000
			if low != high {
				return true
			}
			high = unit >= 0xD800 && unit < 0xDC00
			i += 5
			continue
		}
		if high {
			return true
		}
		if escaped {
			i++
		}
	}
	return high
}
