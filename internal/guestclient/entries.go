package guestclient

import (
	"google.golang.org/protobuf/encoding/protowire"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
)

// entriesField is the number of the repeated field of answers with records: entries of
// FileAnswer and processes of ProcessAnswer. commandsField is that of the commands of
// ProcessAnswer, and of the processes of QuiesceResponse.
const (
	entriesField  protowire.Number = 1
	commandsField protowire.Number = 2
)

// bounds limit an encoded answer.
type bounds struct {
	entries  int // the largest number of entries
	commands int // the largest number of commands; noCommands for other answers
	each     int // the largest size of one of either, in bytes
	size     int // the largest size of the answer, in bytes
}

// noCommands says that the field commandsField has another meaning.
const noCommands = -1

// hold reports whether an encoded answer stays below b. It is asked before the answer is
// decoded: an empty entry, or an empty argument in one, has two bytes on the wire and
// many times as many in memory.
func (b bounds) hold(payload []byte) bool {
	entries, commands := 0, 0
	for len(payload) > 0 {
		number, _, size := protowire.ConsumeField(payload)
		if size < 0 {
			return false
		}
		record := true
		switch {
		case number == entriesField:
			entries++
		case number == commandsField && b.commands != noCommands:
			commands++
		default:
			record = false
		}
		if record && (entries > b.entries || commands > max(b.commands, 0) || size > b.each) {
			return false
		}
		payload = payload[size:]
	}
	return true
}

// fileBounds returns the bounds of an answer to call.
func fileBounds(call *guestv1.FileCall) bounds {
	b := bounds{entries: 1, commands: noCommands, each: maxEntryBytes, size: maxEntryBytes}
	switch op := call.GetOperation().(type) {
	case *guestv1.FileCall_List:
		b.entries, b.size = maxEntries, maxFileAnswer
		if limit := int(op.List.GetLimit()); limit > 0 && limit < maxEntries {
			b.entries = limit
		}
	case *guestv1.FileCall_Remove:
		b.entries = 0
	}
	return b
}

// processBounds returns the bounds of an answer to call.
func processBounds(call *guestv1.ProcessCall) bounds {
	// A record of a later agent may have fields that this version does not know.
	b := bounds{entries: 1, each: 2 * maxRecordBytes, size: 2 * maxRecordBytes}
	if idOf(call) == "" {
		b.entries, b.size = maxProcesses, maxAnswerBytes
	}
	if call.GetList().GetCommands() {
		b.commands, b.size = maxCommands, b.size+maxCommandBytes
	}
	return b
}

// quiesceBounds returns the bounds of a QuiesceResponse. Its processes have the number of
// commandsField, and a number the one of entriesField.
func quiesceBounds() bounds {
	return bounds{entries: 1, commands: maxProcesses, each: 2 * maxRecordBytes, size: maxAnswerBytes}
}
