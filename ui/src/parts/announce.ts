// The live region: short sentences about the result of an action.

export interface Announcement {
  text: string;
  /** Only for screen readers, because it is visible elsewhere. */
  quiet: boolean;
}

let listener: (announcement: Announcement) => void = () => undefined;

/** Shows a message at the bottom and announces it to screen readers. */
export const announce = (text: string, quiet = false) => listener({ text, quiet });

export const onAnnounce = (handler: (announcement: Announcement) => void) => {
  listener = handler;
};
