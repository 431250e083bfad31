package h2front

import "encoding/binary"

// The frames of HTTP/2 (RFC 9113, section 6) that are looked at.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	framePriority     = 0x2
	frameReset        = 0x3
	frameSettings     = 0x4
	framePushPromise  = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8
	frameContinuation = 0x9

	framePriorityUpdate = 0x10 // RFC 9218, section 7.1
)

// Flags of frames. flagAck and flagEndStream are one bit, of different frames.
const (
	flagAck        = 0x1
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

const (
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

	headSize     = 9 // of a frame's header
	pingSize     = 8
	goAwaySize   = 8 // what a GOAWAY has at least: an id and a code
	windowSize   = 4
	resetSize    = 4
	prioritySize = 5
	settingSize  = 6

	settingInitialWindow = 0x4

	// defaultWindow is the window of a connection, and of a stream, at the beginning.
	defaultWindow = 1<<16 - 1
	maxWindow     = 1<<31 - 1
)

// Codes of RST_STREAM and GOAWAY.
const (
	codeNo          = 0x0
	codeInternal    = 0x2
	codeFlowControl = 0x3
)

// head is the header of a frame.
type head struct {
	length      int
	kind, flags byte
	id          uint32
}

func parseHead(b []byte) head {
	return head{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   b[3], flags: b[4],
		id: binary.BigEndian.Uint32(b[5:]) & maxWindow,
	}
}

func (h head) has(flag byte) bool { return h.flags&flag != 0 }

// appendHead appends the header of a frame.
func appendHead(b []byte, length int, kind, flags byte, id uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), kind, flags)
	return binary.BigEndian.AppendUint32(b, id)
}

func appendReset(b []byte, id, code uint32) []byte {
	return binary.BigEndian.AppendUint32(appendHead(b, 4, frameReset, 0, id), code)
}

func appendWindow(b []byte, id uint32, more int64) []byte {
	return binary.BigEndian.AppendUint32(appendHead(b, windowSize, frameWindowUpdate, 0, id), uint32(more))
}

func appendGoAway(b []byte, last, code uint32) []byte {
	b = binary.BigEndian.AppendUint32(appendHead(b, goAwaySize, frameGoAway, 0, 0), last)
	return binary.BigEndian.AppendUint32(b, code)
}
