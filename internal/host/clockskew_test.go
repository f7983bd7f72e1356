package host

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestClockSkew measures a clock over ways that are delayed at random. Whatever
// the delays are, the true skew lies within the bounds.
func TestClockSkew(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		host := time.Unix(1_800_000_000, 0)
		skew := time.Duration(r.Int64N(int64(time.Second))) - 500*time.Millisecond
		s := unknownSkew()
		for range 8 {
			there, back := time.Duration(r.Int64N(int64(200*time.Millisecond))), time.Duration(r.Int64N(int64(200*time.Millisecond)))
			sent := host
			wall := sent.Add(there).Add(skew)
			host = sent.Add(there + back)
			before := s.most - s.least
			s = s.measured(sent, host, wall)
			if s.least > skew || skew > s.most {
				t.Fatalf("a skew of %s is outside of %+v", skew, s)
			}
			if before > 0 && s.most-s.least > before {
				t.Fatalf("the bounds grew from %s to %+v", before, s)
			}
			if s.surelyBeyond(skew.Abs()) || s.surelyWithin(skew.Abs()-1) {
				t.Fatalf("%+v is said to be beyond or within %s", s, skew)
			}
			adjust := s.correction()
			s, skew = s.adjusted(adjust), skew+adjust
		}
	}
}

// TestCorrections: after a correction a clock is off by half the width of the bounds
// at most, also if a busy host delays one way only, and a number of tries makes it
// known to be right.
func TestCorrections(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	unknown := 0
	const clocks = 1000
	for range clocks {
		host := time.Unix(1_800_000_000, 0)
		skew := time.Duration(r.Int64N(int64(time.Second))) - 500*time.Millisecond
		s, request := unknownSkew(), r.IntN(2) == 0
		for range clockTries {
			delay, there := time.Duration(r.Int64N(int64(10*maxClockSkew))), time.Duration(0)
			if request {
				there = delay
			}
			sent := host
			host = sent.Add(delay)
			s = s.measured(sent, host, sent.Add(there).Add(skew))
			adjust := s.correction()
			s, skew = s.adjusted(adjust), skew+adjust
			if width := s.most - s.least; skew.Abs() > width/2+1 {
				t.Fatalf("a clock is %s off after a correction, the bounds are %s wide", skew, width)
			}
		}
		if !s.surelyWithin(maxClockSkew) {
			unknown++
		}
	}
	if unknown > clocks/20 {
		t.Errorf("%d of %d clocks are not known to be right after %d tries", unknown, clocks, clockTries)
	}
}

func TestClockSkewThatJumped(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	s := unknownSkew().measured(at, at.Add(10*time.Millisecond), at)
	if s.middle() != -5*time.Millisecond || !s.surelyWithin(10*time.Millisecond) {
		t.Fatalf("a correct clock in 10 ms is %+v", s)
	}
	// The guest's clock jumps by an hour.
	s = s.measured(at, at.Add(10*time.Millisecond), at.Add(time.Hour))
	if s.middle() < time.Hour-10*time.Millisecond || !s.surelyBeyond(time.Minute) {
		t.Fatalf("a clock that jumped by an hour is %+v", s)
	}
}
