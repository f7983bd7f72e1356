package image

// Event is one step of a build, for people to watch.
type Event struct {
	// Stage is one of wait, check, download, install, tidy, pack, publish; of an import
	// also receive, resolve, pull, unpack.
	Stage string
	// Detail is a line of free text, with no newline.
	Detail string
	// Done and Total are in bytes; Total is 0 where it is not known.
	Done, Total int64
}

// Progress receives the steps of a build. It is called from one goroutine at a
// time and must return soon.
type Progress func(Event)

// Quiet is the Progress of a caller that shows nothing.
func Quiet(Event) {}

func (p Progress) report(stage, detail string) { p(Event{Stage: stage, Detail: detail}) }
