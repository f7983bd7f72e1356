package host_test

// sampleEvery is how many cases of a long table there are for each that runs under the
// race detector. It shares no factor with the number of shapes, so that both take part.
const sampleEvery = 5

// A sample counts the cases of a table of thousands of cases. All of them run without the
// race detector, which makes each take six times as long. Under it every fifth runs: the
// cases differ in the step at which something happens, and go through the same code.
type sample struct{ seen int }

// next reports whether the next case of the table is to run.
func (s *sample) next() bool {
	s.seen++
	return !raceDetector || s.seen%sampleEvery == 0
}
