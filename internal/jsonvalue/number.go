package jsonvalue

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// maxSumDigits bounds the digits of a sum, before and after its point.
const maxSumDigits = 100

// Errors of Add.
var (
	ErrNotNumber = errors.New("it is not a number")
	ErrSum       = fmt.Errorf("a number that is counted with has at most %d digits before its point and as many after it", maxSumDigits)
)

// number is digits times ten to the power of exp. Zero has no digits.
type number struct {
	negative bool
	digits   []byte // without zeros at either end
	exp      int64
}

// parseNumber reads a JSON number.
func parseNumber(raw []byte) (number, error) {
	var n number
	mantissa, exponent := raw, []byte(nil)
	if i := bytes.IndexAny(raw, "eE"); i >= 0 {
		mantissa, exponent = raw[:i], raw[i+1:]
	}
	if exponent != nil {
		exp, err := strconv.ParseInt(strings.TrimPrefix(string(exponent), "+"), 10, 64)
		if err != nil || exp > maxExponent || exp < -maxExponent {
			return n, fmt.Errorf("%w: the exponent of the number %s is beyond a billion", ErrBounds, clip(string(raw)))
		}
		n.exp = exp
	}
	mantissa, n.negative = bytes.CutPrefix(mantissa, []byte("-"))
	whole, fraction, _ := bytes.Cut(mantissa, []byte("."))
	n.exp -= int64(len(fraction))
	digits := append(append(make([]byte, 0, len(mantissa)), whole...), fraction...)
	digits = bytes.TrimLeft(digits, "0")
	n.digits = bytes.TrimRight(digits, "0")
	n.exp += int64(len(digits) - len(n.digits))
	if len(n.digits) == 0 {
		return number{}, nil
	}
	return n, nil
}

func (n number) canonical(dst []byte) []byte {
	if n.negative {
		dst = append(dst, '-')
	}
	dst = append(append(dst, '0'), n.digits...)
	dst = append(dst, 'e')
	return append(strconv.AppendInt(dst, n.exp, 10), ';')
}

// bounded reports whether n can be added: written out, it is short.
func (n number) bounded() bool {
	return n.exp >= -maxSumDigits && int64(len(n.digits))+n.exp <= maxSumDigits
}

// int is n times ten to the power of scale, which must make it whole.
func (n number) int(scale int64) *big.Int {
	i, _ := new(big.Int).SetString("0"+string(n.digits), 10)
	i.Mul(i, new(big.Int).Exp(big.NewInt(10), big.NewInt(n.exp+scale), nil))
	if n.negative {
		i.Neg(i)
	}
	return i
}

// Add is the exact sum of two JSON numbers, written without an exponent.
func Add(a, b []byte) ([]byte, error) {
	x, err := summand(a)
	if err != nil {
		return nil, err
	}
	y, err := summand(b)
	if err != nil {
		return nil, err
	}
	scale := max(-x.exp, -y.exp, 0)
	sum := new(big.Int).Add(x.int(scale), y.int(scale))
	text := new(big.Int).Abs(sum).String()
	if scale > 0 {
		for int64(len(text)) <= scale {
			text = strings.Repeat("0", int(scale)-len(text)+1) + text
		}
		whole, fraction := text[:len(text)-int(scale)], strings.TrimRight(text[len(text)-int(scale):], "0")
		if text = whole; fraction != "" {
			text += "." + fraction
		}
	}
	if sum.Sign() < 0 {
		text = "-" + text
	}
	if n, err := parseNumber([]byte(text)); err != nil || !n.bounded() {
		return nil, ErrSum
	}
	return []byte(text), nil
}

// summand reads a number that can be added.
func summand(text []byte) (number, error) {
	v, err := Parse(text)
	switch {
	case errors.Is(err, ErrBounds):
		return number{}, ErrSum
	case err != nil || v.kind != '0':
		return number{}, ErrNotNumber
	}
	n, _ := parseNumber(v.raw)
	if !n.bounded() {
		return number{}, ErrSum
	}
	return n, nil
}
