// Comma-separated values (RFC 4180), as spreadsheets and AUTOMATIC1111's styles.csv have them.

/**
 * The rows of a text; quoted fields may hold commas, quotes and ends of lines. Empty lines are no rows.
 * @param {string} written
 * @returns {string[][]}
 */
export function parse_csv(written) {
  /** @type {string[][]} */
  const rows = [];
  /** @type {string[]} */
  let row = [];
  let field = "";
  let is_quoted = false;
  let was_quoted = false;
  const end_row = () => {
    if (row.length > 0 || field !== "" || was_quoted) rows.push([...row, field]);
    [row, field, was_quoted] = [[], "", false];
  };
  const source = written.replace(/^\uFEFF/, "");
  for (let at = 0; at < source.length; at += 1) {
    const char = source[at];
    if (is_quoted) {
      if (char !== '"') field += char;
      else if (source[at + 1] === '"') field += source[(at += 1)];
      else is_quoted = false;
    } else if (char === '"' && field.trim() === "") {
      [field, is_quoted, was_quoted] = ["", true, true];
    } else if (char === ",") {
      row.push(field);
      [field, was_quoted] = ["", false];
    } else if (char === "\n" || char === "\r") {
      end_row();
    } else if (!was_quoted || char?.trim() !== "") {
      field += char;
    }
  }
  end_row();
  return rows;
}

/** A text of rows that {@link parse_csv} reads back. @param {string[][]} rows */
export function format_csv(rows) {
  const field = (/** @type {string} */ said) => (/[",\r\n]|^\s|\s$/.test(said) ? `"${said.replaceAll('"', '""')}"` : said);
  return rows.map((row) => `${row.map(field).join(",")}\r\n`).join("");
}
