package host

import (
	"math"
	"time"
)

// clockSkew bounds how far a guest's clock is ahead of the host's. A request that
// reads the guest's clock proves the skew to be within its round trip: the guest
// read its clock after the request was sent and before the answer came. Several
// round trips prove it to be where their bounds overlap (Marzullo's algorithm for
// sources that agree), however unevenly a busy host delays the two ways.
type clockSkew struct{ least, most time.Duration }

// unknownSkew holds for every clock.
func unknownSkew() clockSkew { return clockSkew{least: math.MinInt64, most: math.MaxInt64} }

// adjusted returns the skew after the guest's clock was moved by d.
func (s clockSkew) adjusted(d time.Duration) clockSkew {
	if s == unknownSkew() {
		return s
	}
	return clockSkew{least: s.least + d, most: s.most + d}
}

// measured narrows s by a round trip from sent to received in which the guest's
// clock showed wall. Where that contradicts s, one of the clocks has moved, and the
// round trip alone counts.
func (s clockSkew) measured(sent, received, wall time.Time) clockSkew {
	trip := clockSkew{least: wall.Sub(received), most: wall.Sub(sent)}
	both := clockSkew{least: max(s.least, trip.least), most: min(s.most, trip.most)}
	if both.least > both.most {
		return trip
	}
	return both
}

// middle is the best guess.
func (s clockSkew) middle() time.Duration { return s.least + (s.most-s.least)/2 }

// correction is the adjustment after which the error can be half the width of the
// bounds at most.
func (s clockSkew) correction() time.Duration { return -s.middle() }

// surelyWithin reports that the clock is off by no more than d.
func (s clockSkew) surelyWithin(d time.Duration) bool { return s.least >= -d && s.most <= d }

// surelyBeyond reports that the clock is off by more than d.
func (s clockSkew) surelyBeyond(d time.Duration) bool { return s.least > d || s.most < -d }
