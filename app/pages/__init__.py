"""Pages for people: rendered here, useful without a script, asking no other host.

Routes are in a module for each subject, HTML in templates/, styles and scripts in static/.

rendering: templates, headers, errors as pages; verdicts: results in sentences; charts: where bars begin and end.
"""
