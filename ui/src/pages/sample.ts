// The initial sample record of the playground.

export interface Header {
  name: string;
  value: string;
}

export interface Sample {
  body: string;
  /** `Name: value`, one per line. */
  headers: string;
}

let offered: Sample | undefined;

/** Passes a record to the playground, which is opened next. */
export const offerSample = (sample: Sample) => {
  offered = sample;
};

/** The passed record, once; otherwise an example. */
export function takeSample(): Sample {
  const sample = offered ?? {
    body: '{\n  "user": {"id": "ada"},\n  "price": 2.5,\n  "count": 4\n}',
    headers: "Content-Type: application/json",
  };
  offered = undefined;
  return sample;
}

/** Parses header lines into the API form, or returns the first invalid line. */
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
