// Where this server has something, whatever prefix it is behind: three folders above this script lies its root.

export const addressOf = (path) => new URL(`../../../${path}`, import.meta.url).href;
