// The one live region: short sentences about what an action did.

export interface Said {
  text: string;
  /** Only read, not shown: what it says is to be seen elsewhere. */
  quiet: boolean;
}

let listener: (said: Said) => void = () => undefined;

/** Tells a person what has happened; screen readers read it, eyes see it at the bottom. */
export const say = (text: string, quiet = false) => listener({ text, quiet });

export const onSay = (handler: (said: Said) => void) => {
  listener = handler;
};
