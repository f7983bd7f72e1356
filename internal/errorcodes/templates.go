package errorcodes

// templates are the codes of operations on templates and their builds.
var templates = []Entry{
	{"build_not_found", s(404), "There is no build with this id, or its template was deleted.", "List the builds of the template."},
	{"build_plan_unreadable", s(500), "The stored plan of the build does not decode, for example after a downgrade of the server.", "Build the template again."},
	{"build_state", s(409), "The status of the build does not allow the operation, or its snapshot was removed.", "Read the build; build the template again."},
	{"tag_not_found", s(404), "The template does not have the tag.", "List the tags of the template."},
	{"template_quota", s(429), "There are as many templates, tags or unended builds as there may be.", "Delete some, or wait until builds have ended."},
}
