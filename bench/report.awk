# Prints the figures (tab-separated: position, what, against, here, there, reached, must, aim, unit, more is better)
# as a table. With strict set, exits with 1 where one misses what it must reach.

function rounded(number, unit) {
    if (number == "") return ""
    if (unit == "B" || unit == "a second") return sprintf("%.0f", number)
    if (unit == "µs" || unit == "of its tps" || unit == "× the time") return sprintf("%.3g", number)
    return sprintf("%.1f", number)
}

# What a figure shows, as a whole: "0.23 µs", "14.2 × faster".
function quantity(number, unit) { return number == "" ? "" : rounded(number, unit) " " unit }

function verdict(reached, must, aim, more) {
    if (reached == "") return "not measured"
    if (must == "") return "-"
    if (more ? reached >= aim : reached <= aim) return "aim"
    if (more ? reached >= must : reached <= must) return "ok"
    missed = 1
    return "MISSED"
}

# printf pads by bytes, and some characters have two: pad by characters, with the terminal's idea of a character.
function padded(text, width,    bare) {
    bare = text
    gsub(/[\200-\277]/, "", bare)
    while (length(bare) < width) { text = text " "; bare = bare " " }
    return text
}

function line(a, b, c, d, e, f, g, h) {
    if (format == "markdown") {
        printf "| %s | %s | %s | %s | %s | %s | %s | %s |\n", a, b, c, d, e, f, g, h
    } else {
        printf "%s  %s  %s  %s  %s  %s  %s  %s\n", padded(a, 51), padded(b, 34), padded(c, 10), padded(d, 36), padded(e, 16), padded(f, 12), padded(g, 8), h
    }
}

BEGIN {
    line("what", "against", "here", "there", "reached", "must", "aim", "")
    if (format == "markdown") print "| --- | --- | --- | --- | --- | --- | --- | --- |"
}

{
    line($2, $3, $4, $5, quantity($6, $9), rounded($7, $9), rounded($8, $9), verdict($6, $7, $8, $10 == "t"))
}

END { exit strict != "" && missed }
