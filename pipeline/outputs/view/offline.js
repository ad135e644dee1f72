// What the server answers, from the data of a page that stands alone: lists, one query with its pairs, one video.
"use strict";

function answerFromFile(data, what, asked) {
  const list = data.lists[asked.of];
  switch (what) {
    case "about": return data.about;
    case "facets": return facetsOf(list);
    case "list": return listFrom(list, asked);
    case "query": return known(data.queries[asked.id], "query");
    case "video": return known(data.videos[asked.id], "video");
    default: throw new Error(`this file has no ${what}`);
  }
}

function known(found, what) {
  if (!found) throw new Error(`This ${what} is not in this file; \`hardquery view OUT\` shows all.`);
  return found;
}

function facetsOf(rows) {
  const facets = {};
  for (const { facets: held } of rows) for (const [name, values] of Object.entries(held)) for (const value of values) {
    facets[name] ??= {};
    facets[name][value] = (facets[name][value] || 0) + 1;
  }
  return facets;
}

function listFrom(rows, asked) {
  const first = Number(asked.first || 0), words = (asked.search || "").toLowerCase();
  const filters = Object.entries(asked).filter(([name]) => name.startsWith("f."));
  const found = rows.filter((row) => filters.every(([name, value]) => (row.facets[name.slice(2)] || []).includes(value)) && row.text.includes(words));
  const measure = (row) => row.measures[asked.sort] ?? -Infinity;
  if (rows.some((row) => asked.sort in row.measures)) found.sort((a, b) => measure(b) - measure(a) || 0);
  return { rows: found.slice(first, first + 40).map((each) => each.row), found: found.length, of: rows.length };
}
