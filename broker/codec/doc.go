// Package codec is the form of an entry in bytes, as a log keeps it that is not in
// memory. Every function is safe for concurrent use.
package codec
