package bench

import (
	"strings"
	"testing"
)

func TestTextHasEverything(t *testing.T) {
	o := smallOptions()
	o.Density = 2
	report, err := measure(t, &server{pool: 2}, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range report.Measurements {
		if m := &report.Measurements[i]; m.Name == opBareBoot {
			m.Samples = []float64{1500, 1500}
			m.summarise()
		}
	}
	report.find(opExecAdded).Samples[0] = -0.5
	report.Ratios = report.ratios()
	var text strings.Builder
	if err := report.Text(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"wrenn v9", "qemu 10.0", "create_pool_to_exec", "burst_all", "\nFork, snapshot ", "pause_64_mb", "exec_added",
		"not measured: idle_memory: ", "pause: 60.00 ms and 2.000 ms per MiB written, R² 1.000, n 4",
		"burst: 3 creates in 150 ms, 2 from the pool of 2, 0 failed.", "density: 2 of 2 sandboxes alive together",
		"create_restore is 10.0 times as fast as bare_boot", "create_pool is 100.0 times",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, text.String())
		}
	}
}

func TestTextOfOneSample(t *testing.T) {
	r := Report{Lines: []Line{{Name: opPause, Points: []Point{{8, 0}}}}}
	var text strings.Builder
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "pause: no line through 1 samples") {
		t.Errorf("%s", text.String())
	}
}
