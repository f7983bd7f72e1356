package bench

import (
	"slices"
	"strings"
	"testing"
)

// TestEveryRuntimeIsMeasured: without a choice all runtimes of the host are measured,
// each under its name, and each create asks for its runtime.
func TestEveryRuntimeIsMeasured(t *testing.T) {
	for name, c := range map[string]struct{ asked, want []string }{
		"all": {nil, []string{"gvisor", "microvm"}}, "one": {[]string{"microvm"}, []string{"microvm"}},
	} {
		o := smallOptions()
		o.Runtimes = c.asked
		report, err := measure(t, &server{pool: 2, runtimes: []string{"gvisor", "microvm"}}, o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var subjects []string
		for _, m := range report.Measurements {
			if m.Name == opRestore && m.N == o.Rounds {
				subjects = append(subjects, string(m.Subject))
			}
		}
		if !slices.Equal(subjects, c.want) {
			t.Errorf("%s: restores of %v, want of %v", name, subjects, c.want)
		}
		if len(report.Runtimes) != 2 || report.Runtimes[0].Acceleration != "a-gvisor" {
			t.Errorf("%s: the report describes %+v", name, report.Runtimes)
		}
	}
	o := smallOptions()
	o.Runtimes = []string{"none"}
	if report, err := measure(t, &server{runtimes: []string{"gvisor"}}, o); err == nil || report != nil {
		t.Errorf("a runtime that the host does not offer gave %v, %v", report, err)
	}
}

// TestRowsOfOneOperationAreTogether: the report compares subjects row by row.
func TestRowsOfOneOperationAreTogether(t *testing.T) {
	report, err := measure(t, &server{pool: 2, runtimes: []string{"gvisor", "microvm"}}, smallOptions())
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]int{}
	for i, m := range report.Measurements {
		if at, seen := last[m.Name]; seen && at != i-1 {
			t.Errorf("rows %d and %d are both %s, with others between them", at, i, m.Name)
		}
		last[m.Name] = i
	}
	if len(report.Batches) != 8 || report.Batches[0].Subject != gVisor || report.Batches[1].Subject != microVM {
		t.Errorf("batches: %+v, want those of both runtimes in turn", report.Batches)
	}
}

func rowOf(subject Subject, name string, unit Unit, value float64) Measurement {
	m := Measurement{Subject: subject, Name: name, Unit: unit, Samples: []float64{value}}
	m.summarise()
	return m
}

func TestAims(t *testing.T) {
	r := &Report{
		Measurements: []Measurement{
			rowOf(gVisor, opPool, Milliseconds, 12), rowOf(gVisor, opRestore, Milliseconds, 121),
			rowOf(gVisor, opUpload, MiBPerSecond, 290), rowOf(gVisor, opDownload, MiBPerSecond, 280), rowOf(microVM, opExec, Milliseconds, 1),
			rowOf(gVisor, opSum, Milliseconds, 149), rowOf(Native, opSum, Milliseconds, 100),
			rowOf(Runsc, opRestore, Milliseconds, 130), rowOf(Runsc, opUpload, MiBPerSecond, 300),
		},
		Density: []*Density{{Subject: gVisor, Measured: 100, CPUShare: 0.00004, ServerCPUShare: 0.002}},
	}
	r.Aims, r.Comparisons = r.aims(), r.comparisons()
	met := map[string]bool{}
	for _, a := range r.Aims {
		met[a.Name] = a.Met
	}
	want := map[string]bool{
		opPool: true, opRestore: false, opUpload: true, opDownload: false, opSum: true, "CPU of 100 idle sandboxes and the server": false,
	}
	for name, ok := range want {
		if got, there := met[name]; got != ok || !there {
			t.Errorf("the aim for %s is met: %v, want %v", name, got, ok)
		}
	}
	if len(met) != len(want) {
		t.Errorf("aims: %v, want %v", met, want)
	}
	better := map[string]bool{}
	for _, c := range r.Comparisons {
		better[c.Name] = c.Better
	}
	if len(better) != 2 || !better[opRestore] || better[opUpload] {
		t.Errorf("better than runsc: %v, want restores only", better)
	}
	var text strings.Builder
	r.textAims(&text)
	for _, line := range []string{"at most 120 ms", "at least 286 MiB/s", "0.0060 of a core  missed", "not better"} {
		if !strings.Contains(text.String(), line) {
			t.Errorf("the text lacks %q:\n%s", line, text.String())
		}
	}
}
