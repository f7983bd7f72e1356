package traffic

import (
	"net/http"
	"strings"
)

// notOnSharedOrigin are headers that would act on the whole origin of the API.
var notOnSharedOrigin = []string{
	"Set-Cookie", "Clear-Site-Data", "Service-Worker-Allowed", "Strict-Transport-Security",
	"Nel", "Report-To", "Reporting-Endpoints", "Origin-Agent-Cluster",
}

// sandboxPolicy gives a document an opaque origin of its own.
const sandboxPolicy = "sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts"

// modifyAnswer changes a program's answer for the client.
func modifyAnswer(res *http.Response) error {
	t := targetOf(res.Request.Context())
	res.Header.Del("Alt-Svc") // it would send the client past this server
	if t.form == byHost {
		return nil
	}
	for _, name := range notOnSharedOrigin {
		res.Header.Del(name)
	}
	res.Header.Add("Content-Security-Policy", sandboxPolicy)
	to := res.Header.Get("Location")
	if t.form == byPath && strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "//") {
		res.Header.Set("Location", t.prefix+to)
	}
	return nil
}
