// Package answers holds back what an application answers, where its header says that
// somebody else is to go on with it. The dialects in which it says so are the packages
// above.
package answers

import (
	"maps"
	"net/http"
	"strings"
)

// Fields are the header fields whose names begin with a prefix that ends in a hyphen, such
// as "Evstream-", however they are spelled: what stands behind, such as CGI, may take other
// characters of a name for its hyphens.
type Fields string

// Has reports whether a name is that of one of the fields.
func (f Fields) Has(name string) bool {
	word := len(f) - 1
	if len(name) <= word || !strings.EqualFold(name[:word], string(f[:word])) {
		return false
	}
	c := name[word]
	return (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9')
}

// In reports whether a header has one of the fields.
func (f Fields) In(h http.Header) bool {
	for name := range h {
		if f.Has(name) {
			return true
		}
	}
	return false
}

// Remove removes the fields from a header.
func (f Fields) Remove(h http.Header) {
	maps.DeleteFunc(h, func(name string, _ []string) bool { return f.Has(name) })
}

// RemoveTrailers removes what comes after the body.
func RemoveTrailers(h http.Header) {
	maps.DeleteFunc(h, func(name string, _ []string) bool { return strings.HasPrefix(name, http.TrailerPrefix) })
}

// RemoveDescribing removes the fields that are about the body of an answer or the
// connection to the application, not about a stream in its place.
func RemoveDescribing(h http.Header) {
	for _, name := range []string{
		"Content-Type", "Content-Length", "Content-Encoding", "Content-Range", "Content-Disposition", "Content-Digest", "Content-Md5",
		"Digest", "Repr-Digest", "Etag", "Last-Modified", "Accept-Ranges", "Age", "Expires",
		"Transfer-Encoding", "Trailer", "Connection", "Keep-Alive",
	} {
		h.Del(name)
	}
}

// IsIdentity reports whether an answer is not compressed.
func IsIdentity(h http.Header) bool {
	coding := h.Get("Content-Encoding")
	return coding == "" || strings.EqualFold(coding, "identity")
}
