package grip

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/evstream/caddy-evstream/takeover/internal/answers"
)

// The headers of an answer. All others that begin with Grip- are an error.
const (
	prefix        = "Grip-"
	fields        = answers.Fields(prefix)
	headerHold    = prefix + "Hold"
	headerChannel = prefix + "Channel"
	headerTimeout = prefix + "Timeout"
	headerAlive   = prefix + "Keep-Alive"
	headerMeta    = prefix + "Set-Meta"
	headerStatus  = prefix + "Status"
	headerLink    = prefix + "Link"
	headerExpose  = prefix + "Expose-Headers"
	headerSig     = prefix + "Sig"
	headerFeature = prefix + "Feature"
	headerLast    = prefix + "Last"
)

// Bounds of an answer's headers.
const (
	maxChannels  = 10_000 // a backstop: the hub has a limit of its own
	maxFilters   = 16     // of a channel
	maxMeta      = 64     // entries
	maxMetaBytes = 8 << 10
	maxKeepAlive = 4 << 10
	maxUser      = 255 // bytes, as with Evstream-User
	maxItemID    = 128 // bytes of the id of an item, and of prev-id
	maxSeconds   = 7 * 24 * 60 * 60
	// What the standard says where the answer does not.
	keepAliveTimeout = 55 * time.Second
	nextTimeout      = 120 * time.Second
)

// Features are what Grip-Feature says. Each is done.
const Features = "status, link:next, link:gone, filter:skip-self, filter:skip-users, filter:require-sub, filter:build-id, filter:var-subst"

// Instruct is what an answer says to the proxy.
type Instruct struct {
	Hold      bool
	Channels  []Channel // each name once
	KeepAlive KeepAlive
	Meta      map[string]string
	Status    int    // 0 for that of the answer
	Next      string // a reference, to be resolved; "" for none
	NextAfter time.Duration
	Gone      string
	Expose    []string // nil for all headers
}

// Channel is a channel that a client reads.
type Channel struct {
	Name    string // as the application says it
	PrevID  string // of the item that it has seen last
	HasPrev bool
	Filters []string
}

// KeepAlive is what a quiet connection gets. The zero KeepAlive is that of the hub.
type KeepAlive struct {
	Data     []byte
	Every    time.Duration
	Interval bool // other data does not put it off
}

// ReadInstruct reads the headers of an answer. What this proxy does not do is an error,
// which says what; so is what cannot be read.
func ReadInstruct(h http.Header) (*Instruct, error) {
	i := &Instruct{}
	for name := range h {
		if !fields.Has(name) {
			continue
		}
		switch http.CanonicalHeaderKey(name) {
		case headerHold, headerChannel, headerTimeout, headerAlive, headerMeta, headerStatus, headerLink, headerExpose:
		default:
			return nil, fmt.Errorf("%s is not known", clip(name))
		}
	}
	for _, read := range []func(http.Header) error{i.readHold, i.readChannels, i.readTimeout, i.readKeepAlive, i.readMeta, i.readStatus, i.readLinks, i.readExpose} {
		if err := read(h); err != nil {
			return nil, err
		}
	}
	return i, i.check()
}

// check reports what cannot stand together.
func (i *Instruct) check() error {
	if !i.Hold {
		return nil
	}
	if len(i.Channels) == 0 {
		return fmt.Errorf("%s needs %s", headerHold, headerChannel)
	}
	for _, c := range i.Channels {
		switch {
		case c.HasPrev && i.Next == "":
			return fmt.Errorf("%s has prev-id, which needs a %s with rel=next to recover from", headerChannel, headerLink)
		case c.has(buildID) && i.Meta[metaFormat] == "":
			return fmt.Errorf("the filter %s needs %s with %s", buildID, headerMeta, metaFormat)
		}
	}
	if user := i.Meta[metaUser]; len(user) > maxUser || !utf8.ValidString(user) || strings.ContainsFunc(user, unicode.IsControl) {
		return fmt.Errorf("%s: %s must be UTF-8 of at most %d bytes without control characters, not %q", headerMeta, metaUser, maxUser, clip(user))
	}
	if encoding := i.Meta[metaEncoding]; encoding != "" && encoding != "hex" {
		return fmt.Errorf("%s: %s is hex or nothing, not %q", headerMeta, metaEncoding, clip(encoding))
	}
	return nil
}

func (i *Instruct) readHold(h http.Header) error {
	hold, given, err := one(h, headerHold)
	switch {
	case err != nil || !given:
		return err
	case hold == "response":
		return fmt.Errorf("%s: response is not done here: an answer is held as a stream", headerHold)
	case hold != "stream":
		return fmt.Errorf("%s is stream, not %q", headerHold, clip(hold))
	}
	i.Hold = true
	return nil
}

func (i *Instruct) readChannels(h http.Header) error {
	list, err := readList(h[headerChannel])
	if err != nil {
		return fmt.Errorf("%s: %w", headerChannel, err)
	}
	if len(list) > maxChannels {
		return fmt.Errorf("%s has %d channels, at most %d are allowed", headerChannel, len(list), maxChannels)
	}
	seen := make(map[string]bool, len(list))
	for _, e := range list {
		c := Channel{Name: e[0].value}
		if _, err := ChannelName(c.Name); err != nil {
			return fmt.Errorf("%s: %w", headerChannel, err)
		}
		for _, p := range e[1:] {
			switch strings.ToLower(p.name) {
			case "prev-id":
				if err := checkID(p.value); err != nil {
					return fmt.Errorf("%s: prev-id %w", headerChannel, err)
				}
				c.PrevID, c.HasPrev = p.value, true
			case "filter":
				if !isFilter(p.value) {
					return fmt.Errorf("%s: there is no filter %q; the filters are %s", headerChannel, clip(p.value), strings.Join(filters, ", "))
				}
				if len(c.Filters) == maxFilters {
					return fmt.Errorf("%s: a channel has more than %d filters", headerChannel, maxFilters)
				}
				c.Filters = append(c.Filters, p.value)
			default:
				return fmt.Errorf("%s has the parameter %q, which is not known", headerChannel, clip(p.name))
			}
		}
		if seen[c.Name] {
			return fmt.Errorf("%s names %q twice", headerChannel, clip(c.Name))
		}
		seen[c.Name] = true
		i.Channels = append(i.Channels, c)
	}
	return nil
}

// readTimeout checks Grip-Timeout, which is about holds that are not done here.
func (i *Instruct) readTimeout(h http.Header) error {
	s, given, err := one(h, headerTimeout)
	if err == nil && given {
		_, err = seconds(headerTimeout, s)
	}
	return err
}

func (i *Instruct) readKeepAlive(h http.Header) error {
	line, given, err := one(h, headerAlive)
	if err != nil || !given {
		return err
	}
	// What comes before the first semicolon is data, whatever it has.
	data, parameters, _ := strings.Cut(line, ";")
	e, err := readElement(";" + parameters)
	if err != nil {
		return fmt.Errorf("%s: %w", headerAlive, err)
	}
	k := KeepAlive{Every: keepAliveTimeout}
	format := "raw"
	for _, p := range e[1:] {
		switch strings.ToLower(p.name) {
		case "format":
			format = p.value
		case "timeout":
			if k.Every, err = seconds(headerAlive+" has a timeout, which", p.value); err != nil {
				return err
			}
		case "mode":
			if k.Interval = p.value == "interval"; !k.Interval && p.value != "idle" {
				return fmt.Errorf("%s: mode is idle or interval, not %q", headerAlive, clip(p.value))
			}
		default:
			return fmt.Errorf("%s has the parameter %q, which is not known", headerAlive, clip(p.name))
		}
	}
	switch data = strings.Trim(data, " \t"); format {
	case "raw":
		k.Data = []byte(data)
	case "cstring":
		k.Data, err = unescape(data)
	case "base64":
		k.Data, err = base64.StdEncoding.DecodeString(data)
	default:
		err = fmt.Errorf("format is raw, cstring or base64, not %q", clip(format))
	}
	if err == nil && (len(k.Data) == 0 || len(k.Data) > maxKeepAlive) {
		err = fmt.Errorf("it has %d bytes, 1 to %d are allowed", len(k.Data), maxKeepAlive)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", headerAlive, err)
	}
	k.Data = whole(k.Data)
	i.KeepAlive = k
	return nil
}

func (i *Instruct) readMeta(h http.Header) error {
	list, err := readList(h[headerMeta])
	if err != nil {
		return fmt.Errorf("%s: %w", headerMeta, err)
	}
	size := 0
	for _, e := range list {
		for n, p := range e {
			if n == 0 {
				if p, err = readParameter(p.value); err != nil {
					return fmt.Errorf("%s: %w", headerMeta, err)
				}
			}
			if p.name == "" {
				return fmt.Errorf("%s is a list of NAME=\"VALUE\", not %q", headerMeta, clip(p.value))
			}
			if i.Meta == nil {
				i.Meta = make(map[string]string)
			}
			i.Meta[p.name] = p.value
			if size += len(p.name) + len(p.value); len(i.Meta) > maxMeta || size > maxMetaBytes {
				return fmt.Errorf("%s has more than %d entries or %d bytes", headerMeta, maxMeta, maxMetaBytes)
			}
		}
	}
	return nil
}

func (i *Instruct) readStatus(h http.Header) error {
	s, given, err := one(h, headerStatus)
	if err != nil || !given {
		return err
	}
	code, _, _ := strings.Cut(s, " ")
	if i.Status, err = strconv.Atoi(code); err != nil || i.Status < 200 || i.Status > 999 {
		return fmt.Errorf("%s is a status such as 304, and a reason if need be, not %q", headerStatus, clip(s))
	}
	return nil
}

func (i *Instruct) readLinks(h http.Header) error {
	list, err := readList(h[headerLink])
	if err != nil {
		return fmt.Errorf("%s: %w", headerLink, err)
	}
	for _, e := range list {
		ref, ok := strings.CutPrefix(e[0].value, "<")
		if ref, ok = cutSuffix(ref, ">", ok); !ok || ref == "" {
			return fmt.Errorf("%s is <URI>; rel=next, not %q", headerLink, clip(e[0].value))
		}
		if _, err := url.Parse(ref); err != nil {
			return fmt.Errorf("%s: %w", headerLink, err)
		}
		after := nextTimeout
		if s, given := e.get("timeout"); given {
			if after, err = seconds(headerLink+" has a timeout, which", s); err != nil {
				return err
			}
		}
		switch rel, _ := e.get("rel"); rel {
		case "next":
			i.Next, i.NextAfter = ref, after
		case "gone":
			i.Gone = ref
		default:
			return fmt.Errorf("%s: rel is next or gone, not %q", headerLink, clip(rel))
		}
	}
	return nil
}

func (i *Instruct) readExpose(h http.Header) error {
	list, err := readList(h[headerExpose])
	if err != nil {
		return fmt.Errorf("%s: %w", headerExpose, err)
	}
	for _, e := range list {
		i.Expose = append(i.Expose, http.CanonicalHeaderKey(e[0].value))
	}
	return nil
}

// one is the value of a header that may be given once.
func one(h http.Header, name string) (value string, given bool, err error) {
	switch values := h[name]; len(values) {
	case 0:
		return "", false, nil
	case 1:
		return strings.Trim(values[0], " \t"), true, nil
	default:
		return "", false, fmt.Errorf("%s is given %d times, once is allowed", name, len(values))
	}
}

// seconds reads a number of seconds from 1 on.
func seconds(what, s string) (time.Duration, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > maxSeconds {
		return 0, fmt.Errorf("%s is a whole number of seconds up to %d, not %q", what, maxSeconds, clip(s))
	}
	return time.Duration(max(n, 1)) * time.Second, nil
}

// unescape reads the escapes \\, \r, \n and \xHH.
func unescape(s string) ([]byte, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		i++
		switch {
		case i < len(s) && s[i] == '\\':
			out = append(out, '\\')
		case i < len(s) && s[i] == 'r':
			out = append(out, '\r')
		case i < len(s) && s[i] == 'n':
			out = append(out, '\n')
		case i+2 < len(s) && s[i] == 'x':
			b, err := hex.DecodeString(s[i+1 : i+3])
			if err != nil {
				return nil, fmt.Errorf("%q is no byte in hexadecimal", s[i-1:i+3])
			}
			out = append(out, b...)
			i += 2
		default:
			return nil, fmt.Errorf(`the escapes are \\, \r, \n and \xHH: %q`, clip(s))
		}
	}
	return out, nil
}

func cutSuffix(s, suffix string, ok bool) (string, bool) {
	s, found := strings.CutSuffix(s, suffix)
	return s, ok && found
}

// checkID reports why an id of an item cannot be kept.
func checkID(id string) error {
	if len(id) > maxItemID {
		return fmt.Errorf("has %d bytes, at most %d are allowed", len(id), maxItemID)
	}
	for i := range len(id) {
		if id[i] < ' ' || id[i] == 0x7F {
			return fmt.Errorf("%q has control characters", clip(id))
		}
	}
	return nil
}
