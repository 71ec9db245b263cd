// The record that the playground begins with.

export interface Header {
  name: string;
  value: string;
}

export interface Sample {
  body: string;
  /** `Name: value`, one a line. */
  headers: string;
}

let offered: Sample | undefined;

/** Hands a record over to the playground, which is opened next. */
export const offerSample = (sample: Sample) => {
  offered = sample;
};

/** The record that was handed over, once; else an example. */
export function takeSample(): Sample {
  const sample = offered ?? {
    body: '{\n  "user": {"id": "ada"},\n  "price": 2.5,\n  "count": 4\n}',
    headers: "Content-Type: application/json",
  };
  offered = undefined;
  return sample;
}

/** Header lines as the API takes them, or the line that is none. */
export function parseHeaders(text: string): { headers: Header[] } | { wrong: string } {
  const headers: Header[] = [];
  for (const line of text.split("\n")) {
    if (line.trim() === "") continue;
    const colon = line.indexOf(":");
    const name = line.slice(0, colon).trim();
    if (colon < 1 || name === "") return { wrong: line };
    headers.push({ name, value: line.slice(colon + 1).trim() });
  }
  return { headers };
}
